"""Contents that the edge has or makes itself, as an edge declares them: files of folders, and variants of images."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from edgerouter import error_pages, places
from edgerouter import files as folders
from edgerouter import images as pictures
from edgerouter.arguments import helpful
from edgerouter.cache import STANDARD, CachePolicy
from edgerouter.checks import shown
from edgerouter.error_pages import ErrorPage
from edgerouter.errors import ConfigError, Problem
from edgerouter.experiments import Experiment
from edgerouter.files import Files
from edgerouter.images import Images, ImageSources
from edgerouter.origins import Group, Origin
from edgerouter.route_options import RouteOptions, fields_of
from edgerouter.routes import Route

if TYPE_CHECKING:
    from edgerouter.declarations import Declarations

__all__ = ["Contents"]


class Contents:
    """The routes of an ``Edge`` that need no origin beside them: of folders, and of images by their URLs."""

    _declared: Declarations

    @helpful
    def files(
        self,
        prefix: str,
        folder: str | os.PathLike[str],
        *,
        index: str | None = "index.html",
        fallback: str | None = None,
        precompressed: bool = True,
        listing: bool = False,
        immutable: str | None = None,
        experiment: Experiment | Collection[Experiment] = (),
        errors: Mapping[int, str | ErrorPage | Mapping[str, Any]] | None = None,
        compress: bool | None = None,
        **options: Unpack[RouteOptions],
    ) -> Route:
        """Serves the files of a folder below a prefix: ``edge.files("/assets", "dist/")``.

        Declares a route for the paths below the prefix, which is returned, and one for the prefix itself, which
        redirects to the folder. Both answer GET and HEAD, with validators, conditions and ranges.

        ``prefix``  ``/path`` or ``host/path``; ``/`` for the whole site
        ``folder``, ``index``, ``fallback``, ``precompressed``, ``listing``, ``immutable``  see ``Files``
        ``experiment``, ``host``, ``when``, ``priority``, ``viewer``, ``auth``  as in ``Edge.route``
        ``addresses``, ``cors``, ``rate_limit``, ``signed``, ``basic``, ``security``  the same
        ``compress``  sends files that have no ``precompressed`` one beside them in Brotli, Zstandard or gzip; as in
            ``Edge.route``
        ``headers``  edits of the response to the viewer
        ``errors``  pages for error statuses, as in ``Edge.route``: ``{404: "/404.html"}`` is served from the folder
        """
        below, itself = folders.pattern(prefix) if isinstance(prefix, str) else (prefix, None)
        pages = error_pages.located(errors, places.folder_of_caller()) if errors else {}
        declaring, start = places.file_of_caller(), places.folder_of_caller()

        def declare(pattern: str) -> Route:
            served = Files(
                folder,
                index=index,
                fallback=fallback,
                precompressed=precompressed,
                listing=listing,
                immutable=immutable,
            )
            return Route(
                pattern,
                files=folders.located(served, start, declaring),
                errors=pages,
                compress=compress,
                **fields_of(options, experiment),
            )

        route = self._declared.add_route(lambda: declare(below))
        if itself is not None:
            self._declared.add_route(lambda: declare(itself))
        return route

    @helpful
    def images(
        self,
        pattern: str,
        *,
        sources: Collection[Origin | Group | str],
        images: Images | Mapping[str, Any] | None = None,
        networks: Collection[str] = (),
        cache: CachePolicy = STANDARD,
        **options: Unpack[RouteOptions],
    ) -> Route:
        """Serves variants of images that the query names: ``/_image?url=/photo.jpg&w=640``.

        ``pattern``  ``/path`` or ``host/path``
        ``sources``  origins and groups of this edge, whose routes everybody may use, and hosts of others as text
        ``images``  the variants, see ``Images``
        ``networks``  private networks in which hosts of others may be
        ``cache``  how variants of images of other hosts are stored; those of this edge are stored as their route says
        ``host``, ``when``, ``priority``, ``viewer``, ``auth``  as in ``Edge.route``
        ``addresses``, ``cors``, ``rate_limit``, ``signed``, ``basic``, ``security``  the same
        ``headers``  edits of the response to the viewer
        """
        own, others = pictures.split(sources)
        for text in others:
            if isinstance(text, str) and (text in self._declared.origins or text in self._declared.groups):
                message = (
                    "is the name of an origin or group, and a text is a host of others; give the value, as in [site]"
                )
                raise ConfigError([Problem("images.sources", shown(text), message)])

        def declare() -> Route:
            return Route(
                pattern,
                image_sources=ImageSources(
                    origins=[self._declared.known(source) for source in own],
                    hosts=others,
                    networks=networks,
                ),
                images=images,
                cache=cache,
                **fields_of(options),
            )

        return self._declared.add_route(declare)

"""edgerouter: an edge router and CDN node that a Python team owns.

Python configures, Rust serves: an ``Edge`` collects typed, immutable values, compiles them into one plan, and the
engine (``edgerouter._core``) serves it. Here are the public names; each is defined in the module of its noun, and
nothing here holds state or does I/O when imported. Decisions live in the Rust core, sockets in the Rust engine.
"""

from edgerouter import cache
from edgerouter._core import __version__ as __version__
from edgerouter.access_log import AccessLog
from edgerouter.bindings import Binding
from edgerouter.cache import CachePolicy, all_except, only
from edgerouter.edge import Edge
from edgerouter.error_pages import ErrorPage
from edgerouter.errors import (
    Abort,
    BindingError,
    BodyError,
    CacheError,
    ConfigError,
    EdgeError,
    FetchError,
    FunctionError,
    ListenError,
    MissingError,
    OriginError,
    Problem,
)
from edgerouter.experiments import Experiment
from edgerouter.files import Files
from edgerouter.functions import AsyncContext, Context, Request, Response
from edgerouter.functions.events import Event
from edgerouter.geo import GeoPolicy
from edgerouter.guarding import AddressPolicy, BasicAuth, Cors, Hsts, RateLimit, SecurityHeaders, SignedUrls
from edgerouter.html import HtmlEdit
from edgerouter.identity import Jwt
from edgerouter.images import Images, ImageSources
from edgerouter.isolation import Isolation
from edgerouter.limits import (
    CacheLimits,
    CompressionLimits,
    DataLimits,
    FileLimits,
    FunctionLimits,
    Http2Limits,
    HttpLimits,
    IdentityLimits,
    ImageLimits,
    Limits,
    LogLimits,
    OriginLimits,
    PrefetchLimits,
    PurgeLimits,
    TlsLimits,
)
from edgerouter.listening import Certificate, Listener, Tls
from edgerouter.obtaining import Acme, Issuer
from edgerouter.origins import Group, Health, Origin
from edgerouter.outside import FetchHosts
from edgerouter.plugins import Plugin
from edgerouter.prefetch import Predict, Prefetch
from edgerouter.purging import DryRun, Purge
from edgerouter.routes import (
    ForwardPolicy,
    HeaderEdits,
    HeaderPolicy,
    Redirect,
    Respond,
    Rewrite,
    Route,
    When,
)
from edgerouter.secrets import Secret, env, secret_file
from edgerouter.service_worker import ServiceWorker
from edgerouter.storage import DiskCache
from edgerouter.tracing import Tracing

__all__ = [
    "Abort",
    "AccessLog",
    "Acme",
    "AddressPolicy",
    "AsyncContext",
    "BasicAuth",
    "Binding",
    "BindingError",
    "BodyError",
    "CacheError",
    "CacheLimits",
    "CachePolicy",
    "Certificate",
    "CompressionLimits",
    "ConfigError",
    "Context",
    "Cors",
    "DataLimits",
    "DiskCache",
    "DryRun",
    "Edge",
    "EdgeError",
    "ErrorPage",
    "Event",
    "Experiment",
    "FetchError",
    "FetchHosts",
    "FileLimits",
    "Files",
    "ForwardPolicy",
    "FunctionError",
    "FunctionLimits",
    "GeoPolicy",
    "Group",
    "HeaderEdits",
    "HeaderPolicy",
    "Health",
    "Hsts",
    "HtmlEdit",
    "Http2Limits",
    "HttpLimits",
    "IdentityLimits",
    "ImageLimits",
    "ImageSources",
    "Images",
    "Isolation",
    "Issuer",
    "Jwt",
    "Limits",
    "ListenError",
    "Listener",
    "LogLimits",
    "MissingError",
    "Origin",
    "OriginError",
    "OriginLimits",
    "Plugin",
    "Predict",
    "Prefetch",
    "PrefetchLimits",
    "Problem",
    "Purge",
    "PurgeLimits",
    "RateLimit",
    "Redirect",
    "Request",
    "Respond",
    "Response",
    "Rewrite",
    "Route",
    "Secret",
    "SecurityHeaders",
    "ServiceWorker",
    "SignedUrls",
    "Tls",
    "TlsLimits",
    "Tracing",
    "When",
    "all_except",
    "cache",
    "env",
    "only",
    "secret_file",
]

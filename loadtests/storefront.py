"""The storefront demo's promises, as checks on single answers. Each raises ``WrongAnswerError`` with its observation.

Nothing here knows locust: an answer is a status, headers and a body.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

PRODUCTS = 1000
VARIANTS = ("control", "treatment")
VARIANT_COOKIE = "ab-variant"


class WrongAnswerError(Exception):
    """The answer is not the one that this visitor must get."""


@dataclass(frozen=True)
class Answer:
    """``headers`` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def check(answer: Answer, status: int = 200) -> None:
    """Checks for every answer that went through the cache or to an origin."""
    if answer.status != status:
        raise WrongAnswerError(f"status {answer.status}, not {status}: {answer.body[:120]!r}")
    if "cache-status" not in answer.headers:
        raise WrongAnswerError("no Cache-Status")
    if served_from_cache(answer) and not answer.headers.get("age", "").isdigit():
        raise WrongAnswerError(f"a hit with Age {answer.headers.get('age')!r}")
    length = answer.headers.get("content-length")
    if status == 304 and answer.body:
        raise WrongAnswerError(f"a 304 with a body of {len(answer.body)} bytes")
    if (
        status != 304
        and length is not None
        and "content-encoding" not in answer.headers
        and int(length) != len(answer.body)
    ):
        raise WrongAnswerError(f"{len(answer.body)} bytes of {length}")


def served_from_cache(answer: Answer) -> bool:
    """A hit in the sense of RFC 9211: the last member of Cache-Status says so."""
    members = answer.headers.get("cache-status", "").split(",")
    return "hit" in [part.strip() for part in members[-1].split(";")]


def check_page(answer: Answer, number: int | None, variant: str | None) -> None:
    """A page is the home page (``number`` None) or a product's, drawn for the visitor's variant."""
    check(answer)
    if not answer.headers.get("content-type", "").startswith("text/html"):
        raise WrongAnswerError(f"a page of type {answer.headers.get('content-type')!r}")
    text = answer.body.decode("utf-8", "replace")
    if "</html>" not in text:
        raise WrongAnswerError("half a page")
    shown = re.search(r'data-product="(\d+)"', text)
    if number is None and shown:
        raise WrongAnswerError(f"product {shown[1]} in place of the home page")
    if number is not None and (shown is None or int(shown[1]) != number):
        raise WrongAnswerError(f"product {shown[1] if shown else 'none'} in place of {number}")
    drawn = re.search(r'data-variant="([\w-]*)"', text)
    if drawn is None:
        raise WrongAnswerError("the page does not say which variant it was drawn for")
    if variant is not None and drawn[1] != variant:
        raise WrongAnswerError(f"drawn for variant {drawn[1]!r}, the visitor has {variant!r}")


def check_account(answer: Answer, user: str) -> None:
    """``/api/me`` answers with the identity that the edge sent to the origin: this visitor's only."""
    check(answer)
    if served_from_cache(answer):
        raise WrongAnswerError("a personal answer out of the cache")
    told = json.loads(answer.body)
    if told.get("id") != user:
        raise WrongAnswerError(f"the account of {told.get('id')!r} for {user!r}")


def logged_in(answer: Answer, email: str) -> tuple[str, str]:
    """The user and the token of a login. The user is read from the token, as the edge will read it."""
    check(answer)
    token = json.loads(answer.body)["token"]
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    user = claims.get("userId") or claims.get("sub")
    if not user:
        raise WrongAnswerError(f"the token of {email} names nobody")
    return user, token


def check_products(answer: Answer) -> None:
    check(answer)
    listed = json.loads(answer.body)
    listed = listed["products"] if isinstance(listed, dict) else listed
    if not listed or any("id" not in product for product in listed):
        raise WrongAnswerError("no list of products")


def check_file(answer: Answer, kind: str) -> None:
    check(answer)
    if not answer.headers.get("content-type", "").startswith(kind):
        raise WrongAnswerError(f"{answer.headers.get('content-type')!r}, not {kind}")
    if not answer.body:
        raise WrongAnswerError("an empty file")


def images(page: bytes) -> list[str]:
    """The images of this site that a browser would fetch with the page."""
    found = re.findall(rb'<img[^>]+src="(/[^"]+)"', page)
    return sorted({path.decode() for path in found})


def assigned_variant(answer: Answer) -> str | None:
    """The variant that the answer's cookie assigns, with the attributes it must have."""
    cookie = answer.headers.get("set-cookie", "")
    name, _, rest = cookie.partition("=")
    if name != VARIANT_COOKIE:
        return None
    value, *attributes = [part.strip() for part in rest.split(";")]
    if value not in VARIANTS or not {"Path=/", "Max-Age=2592000", "SameSite=Lax"} <= set(attributes):
        raise WrongAnswerError(f"a strange cookie: {cookie!r}")
    return value

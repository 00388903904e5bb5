"""Every answer that is no success: one `Problem`, told as RFC 9457's `application/problem+json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from topos_rt.errors import (
    BackendError,
    Cancelled,
    FaceError,
    InputError,
    MissingExtraError,
    OutputError,
    ToposError,
    one_line,
    shortened,
)

MEDIA_TYPE = "application/problem+json"

# Slug -> status and title. The type of a problem is "urn:topos-rt:" and its slug.
PROBLEMS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be used"),
    "bad-input": (400, "The picture, scan or an option cannot be used"),
    "no-key": (401, "An API key is needed"),
    "foreign-page": (403, "A page of another site may not use this service"),
    "not-found": (404, "There is nothing here"),
    "wrong-method": (405, "This address does not take this method"),
    "not-acceptable": (406, "None of the accepted types can be given"),
    "too-slow": (408, "The request did not arrive in time"),
    "gone": (410, "The head is kept no longer"),
    "too-large": (413, "The request is too large"),
    "wrong-type": (415, "The request is of a type that is not read"),
    "wrong-host": (421, "The service does not go by this name"),
    "no-face": (422, "No face that can be used"),
    "busy": (429, "Too much is waiting"),
    "failure": (500, "The service failed"),
    "not-installed": (501, "The service lacks what this needs"),
    "not-ready": (503, "The service is not ready"),
    "draining": (503, "The service is about to stop"),
    "no-memory": (503, "The service is out of memory"),
    "deadline": (504, "The work took too long"),
}


class Problem(Exception):
    """What a client is told instead of a success.

    slug: a key of PROBLEMS. what, got, expected, fix: as in `ToposError`. headers: more of the answer's.
    """

    def __init__(
        self,
        slug: str,
        what: str,
        *,
        got: object = None,
        expected: object = None,
        fix: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(what)
        self.slug = slug
        self.status, self.title = PROBLEMS[slug]
        self.error = ToposError(what, got=got, expected=expected, fix=fix)
        self.headers = dict(headers or {})

    def to_json(self) -> dict[str, Any]:
        """Return the body of the answer."""
        parts = {name: getattr(self.error, name) for name in ("got", "expected", "fix")}
        return {
            "type": f"urn:topos-rt:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": str(self.error),
            **{name: None if part is None else one_line(shortened(part)) for name, part in parts.items()},
        }

    def to_bytes(self) -> bytes:
        return json.dumps(self.to_json()).encode()


# The first class that fits decides.
_SLUGS: tuple[tuple[type[BaseException], str], ...] = (
    (FaceError, "no-face"),
    (MissingExtraError, "not-installed"),
    (OutputError, "failure"),
    (InputError, "bad-input"),
    (BackendError, "failure"),
    (Cancelled, "deadline"),
    (ToposError, "failure"),
)


def problem_of(error: BaseException) -> Problem:
    """Return what a client is told of an error; of one that nobody foresaw, no more than that it happened."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, MemoryError):
        return Problem("no-memory", "there is not enough memory", fix="send a smaller picture, or try again")
    for kind, slug in _SLUGS:
        if isinstance(error, kind) and isinstance(error, ToposError):
            what = error.what.removesuffix(" (bytes)").removesuffix(" (Pillow image)")
            return Problem(slug, what, got=error.got, expected=error.expected, fix=error.fix)
    return Problem("failure", "an unexpected failure", fix="see the service's log")

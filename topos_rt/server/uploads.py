"""Bodies of requests, from forms or from JSON. Nothing is stored on a disk, and no name of a file is used."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from topos_rt.server.problems import Problem

M = TypeVar("M", bound=BaseModel)
_FORM, _JSON = "multipart/form-data", "application/json"
_MOST_FIELDS = 64
_MOST_FIELD = 4096  # bytes
_SUFFIX = 8


@dataclass(frozen=True)
class Upload:
    """A file of a request, and what its name ends in, lower case; nothing else of the name is kept."""

    data: bytes
    suffix: str


class _Form(MultiPartParser):
    """Keeps files in memory, where nobody else finds them, and notes whether the end was seen."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def read_upload(request: Request, field: str, kind: type[M]) -> tuple[Upload, M]:
    """Return the file of a request in `field`, and its options.

    Raises Problem for bodies of another type, damaged ones, and options that are wrong.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given == _FORM:
        upload, options = await _read_form(request, field)
    elif given == _JSON:
        upload, options = await _read_json(request, field)
    else:
        raise Problem(
            "wrong-type",
            "the type of the body",
            got=repr(given)[:80] if given else "no Content-Type",
            expected=f"{_FORM} with the field {field}, or {_JSON}",
        )
    if not upload.data:
        raise Problem("bad-input", f"the field {field}", got="no bytes", expected="a file")
    return upload, validated(kind, options)


def validated(kind: type[M], options: Any) -> M:
    """Return options as a model of pydantic. Raises Problem that names the first that is wrong."""
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False)) from None


def invalid(errors: Any) -> Problem:
    """Return the problem of options that pydantic refuses."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path")) or "options"
    told = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] == "extra_forbidden":
        return Problem(
            "bad-request", f"unknown option {where[:60]!r}", fix="see docs/serve.md for the options"
        )
    got = "nothing" if first["type"] == "missing" else repr(first.get("input"))[:60]
    return Problem(
        "bad-request", f"option {where[:60]!r}", got=got, expected=told.removeprefix("input should be ")
    )


async def _read_form(request: Request, field: str) -> tuple[Upload, dict[str, Any]]:
    parser = _Form(
        request.headers, _chunks(request), max_files=1, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD
    )
    parser.spool_max_size = 2**62  # the body is limited, and a picture of a face belongs on no disk
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:
        raise Problem("bad-request", "the form", got=error, expected="whole multipart/form-data") from None
    try:
        return await _picked(form, field, parser.ended)
    finally:
        await form.close()


async def _picked(form: FormData, field: str, ended: bool) -> tuple[Upload, dict[str, Any]]:
    """Return the file of a form, and its other fields as they are: text, or a list where one is repeated."""
    file = form.get(field)
    if not ended:
        raise Problem(
            "bad-request", "the form", got="one that ends early", expected="whole multipart/form-data"
        )
    if not isinstance(file, UploadFile):
        got = "text without a file name" if isinstance(file, str) else "no such field"
        raise Problem("bad-request", f"the field {field}", got=got, expected=f"a file: -F {field}=@FILE")
    others = {name: form.getlist(name) for name in form if name != field}
    options = {name: values[0] if len(values) == 1 else values for name, values in others.items()}
    return Upload(await file.read(), _suffix(file.filename)), options


async def _chunks(request: Request) -> AsyncGenerator[bytes, None]:
    async for chunk in request.stream():
        yield chunk


async def _read_json(request: Request, field: str) -> tuple[Upload, dict[str, Any]]:
    try:
        tree = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise Problem("bad-request", "the body", got="what is no JSON", expected="a JSON object") from error
    if not isinstance(tree, dict):
        raise Problem("bad-request", "the body", got="JSON that is no object", expected=f'{{"{field}": …}}')
    if field not in tree:
        raise Problem("bad-request", f"the key {field}", got="no such key", expected="a file in base64")
    text = tree.pop(field)
    try:
        if not isinstance(text, str):
            raise ValueError("no text")
        return Upload(base64.b64decode(text, validate=True), ""), tree
    except (ValueError, binascii.Error) as error:
        url = isinstance(text, str) and "://" in text[:20]
        raise Problem(
            "bad-request",
            f"the key {field}",
            got="an address" if url else "what is no base64",
            expected="the bytes of a file in base64: nothing is ever fetched or opened for a client",
        ) from error


def _suffix(name: str | None) -> str:
    end = (name or "").rpartition(".")[2].lower()
    return end if end.isascii() and end.isalnum() and len(end) <= _SUFFIX else ""

"""The studio's page: files that Vite built, under a policy that lets them load nothing from elsewhere."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from topos_rt.server.problems import Problem

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
# The page shows pictures and worlds that it makes itself (blob:), and talks to its own service alone. Styles
# are set from scripts, which is what 'unsafe-inline' of style-src is for; WebAssembly decoders need theirs.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "font-src 'self'",
        "connect-src 'self' {sockets} blob: data:",
        "worker-src 'self' blob:",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")
_HASHED = "assets/"  # Vite puts the hash of their contents into these names
_TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".svg": "image/svg+xml"}


def is_built(folder: Path) -> bool:
    """Return whether there is a page to serve."""
    return (folder / INDEX).is_file()


def _is_own(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _headers(request: Request, kept: str) -> dict[str, str]:
    # Not every browser takes a WebSocket of the same host for 'self'. The gate has checked the name.
    host = request.headers.get("host", "")
    sockets = f"ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return {**_HEADERS, "Content-Security-Policy": _POLICY.format(sockets=sockets), "Cache-Control": kept}


def page_router(folder: Path) -> APIRouter:
    """Return the routes of the page. Its files are listed once: no path of a client's is opened."""
    router = APIRouter(include_in_schema=False)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if _is_own(path)}

    @router.get("/{name:path}")
    async def page(request: Request, name: str) -> Response:
        path = files.get(name or INDEX)
        if path is None:
            raise Problem("not-found", "this address")
        kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        kept = "public, max-age=31536000, immutable" if name.startswith(_HASHED) else "no-cache"
        return Response(path.read_bytes(), media_type=kind, headers=_headers(request, kept))

    return router

"""The HTTP service and the studio's side of it: `topos-rt serve` and `topos-rt studio`.

    from topos_rt.server import Settings, create_app

    app = create_app(Settings(model="mini"))  # an ASGI application, for uvicorn, Ray Serve or a test

Only `settings` and `problems` load without `pip install 'topos-rt[serve]'`; docs/serve.md has every route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from topos_rt.server.settings import Settings

if TYPE_CHECKING:
    from topos_rt.server.app import create_app

__all__ = ["Settings", "create_app"]


def __getattr__(name: str) -> object:
    if name != "create_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from topos_rt.server.app import create_app
    except ModuleNotFoundError as error:
        from topos_rt.errors import MissingExtraError

        raise MissingExtraError.needs(f"the service: the module {error.name}", "serve") from error
    return create_app

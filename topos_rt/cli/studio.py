"""`topos-rt studio`: the service and its page, on this machine."""

from __future__ import annotations

import argparse

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.cli.serve import add_address, add_service_options, run_service, settings_of
from topos_rt.errors import InputError, MissingExtraError

EPILOG = """
examples:
  topos-rt studio                          opens the page in the browser
  topos-rt studio --port 9000 --no-browser

The page loads nothing from a network, and pictures do not leave this machine.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt studio`."""
    parser.epilog = EPILOG
    add_address(parser, 0)
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    parser.set_defaults(quiet=True)
    add_service_options(parser)
    options.add_model_options(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Serve the page until a signal comes."""
    try:
        from topos_rt.server import page
        from topos_rt.server.run import open_browser
    except ModuleNotFoundError as error:
        raise MissingExtraError.needs(f"topos-rt studio: the module {error.name}", "serve") from error
    if not page.is_built(page.FOLDER):
        raise InputError(
            "the studio's page",
            got="a copy of topos_rt in which it is not built",
            expected=f"{page.INDEX} in topos_rt/server/page/, as in a wheel",
            fix="in a clone, with Node.js: cd studio && npm ci && npm run build",
        )
    settings = settings_of(arguments, page=True)
    return run_service(settings, arguments, console, None if arguments.no_browser else open_browser)

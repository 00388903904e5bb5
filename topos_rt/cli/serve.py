"""`topos-rt serve`: heads over HTTP."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.errors import InputError, MissingExtraError, OptionError
from topos_rt.server.settings import MIB, MOST_PORT, Settings

if TYPE_CHECKING:
    import socket

EPILOG = """
examples:
  topos-rt serve                                       http://127.0.0.1:8000, for this machine alone
  curl -F image=@face.jpg -H 'Accept: model/gltf-binary' localhost:8000/v1/heads -o head.glb
  topos-rt serve --host 0.0.0.0 --api-key-file key --allow-host heads.example

docs/serve.md has every route and limit. SIGTERM lets running work end, and stops the service.
"""
KEY = "TOPOS_RT_API_KEY"
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000
_KEY_BYTES = 4096


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt serve`."""
    parser.epilog = EPILOG
    add_address(parser, DEFAULT_PORT)
    parser.add_argument(
        "--api-key-file", metavar="FILE", help=f"what clients have to show (default: ${KEY}, else nothing)"
    )
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a name by which clients call the service, beside its addresses and localhost",
    )
    parser.add_argument(
        "--allow-origin", metavar="ORIGIN", action="append", default=[], help="a web page that may use it"
    )
    parser.add_argument("--quiet", action="store_true", help="log no requests")
    add_service_options(parser)
    options.add_model_options(parser)


def add_address(parser: argparse.ArgumentParser, port: int) -> None:
    """Add --host and --port."""
    parser.add_argument(
        "--host", metavar="ADDRESS", default=DEFAULT_HOST, help=f"where to listen (default: {DEFAULT_HOST})"
    )
    parser.add_argument(
        "--port",
        metavar="N",
        type=options.whole_within(0, MOST_PORT),
        default=port,
        help=f"the port; 0 takes a free one (default: {port})",
    )


def add_service_options(parser: argparse.ArgumentParser) -> None:
    """Add what limits a service."""
    group = parser.add_argument_group("limits")
    plain = Settings()

    def whole(flag: str, value: int, low: int, high: int, about: str) -> None:
        kind = options.whole_within(low, high)
        group.add_argument(flag, metavar="N", type=kind, default=value, help=f"{about} (default: {value})")

    whole("--workers", plain.workers, 1, 64, "heads that are worked on at once")
    whole("--queue", plain.queue, 0, 10_000, "requests that may wait for a worker; others get 429")
    whole("--deadline", int(plain.deadline_s), 1, 86_400, "seconds from a request to its answer")
    whole("--max-upload", plain.max_upload // MIB, 1, 1024, "MiB of a picture or scan")
    group.add_argument(
        "--results", metavar="DIR", help="keep heads in a directory, so that they outlive the process"
    )
    whole("--keep", int(plain.keep_s), 1, 31_536_000, "seconds for which a head can be fetched")
    whole("--keep-mib", plain.kept_bytes // MIB, 0, 2**20, "MiB of kept heads; then the oldest go")
    whole("--drain", int(plain.drain_s), 0, 3600, "seconds that running work has when the service stops")


def settings_of(arguments: argparse.Namespace, **more: Any) -> Settings:
    """Return the settings of a service. Raises OptionError."""
    given = options.engines(arguments)
    return Settings(
        model=arguments.model,
        **given,
        workers=arguments.workers,
        queue=arguments.queue,
        deadline_s=float(arguments.deadline),
        max_upload=arguments.max_upload * MIB,
        held_uploads=max(Settings().held_uploads, 2 * arguments.max_upload * MIB),
        results=None if arguments.results is None else Path(arguments.results),
        keep_s=float(arguments.keep),
        kept_bytes=arguments.keep_mib * MIB,
        drain_s=float(arguments.drain),
        **more,
    )


def key_of(arguments: argparse.Namespace) -> str | None:
    """Return the API key of a file or the environment, None where there is none. Raises InputError."""
    if arguments.api_key_file is None:
        return os.environ.get(KEY) or None
    try:
        with open(arguments.api_key_file, "rb") as file:
            data = file.read(_KEY_BYTES + 1)
        key = data.decode("ascii").strip()
    except OSError as error:
        raise InputError(
            f"--api-key-file {arguments.api_key_file}", got=error.strerror, expected="a file with one line"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError("--api-key-file", got="what is no ASCII", expected="a file with one line") from error
    if not key or len(data) > _KEY_BYTES:
        got = "an empty file" if not key else f"more than {_KEY_BYTES:,} bytes"
        raise InputError("--api-key-file", got=got, expected="one line", fix="openssl rand -hex 32 > FILE")
    return key


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Serve until a signal comes."""
    settings = settings_of(
        arguments,
        api_key=key_of(arguments),
        hosts=tuple(arguments.allow_host),
        origins=tuple(arguments.allow_origin),
    )
    return run_service(settings, arguments, console)


def run_service(
    settings: Settings, arguments: argparse.Namespace, console: Console, ready: Any = None
) -> int:
    """Listen, say where, and serve until a signal comes. ready: gets the address once the model is loaded."""
    if arguments.json:
        raise OptionError("--json", got="a command that does not end by itself", fix="leave it out")
    try:
        from topos_rt.server import create_app
        from topos_rt.server import run as running
    except ModuleNotFoundError as error:
        raise MissingExtraError.needs(f"the service: the module {error.name}", "serve") from error
    listening: socket.socket = running.listen(arguments.host, arguments.port)
    with listening, running.logging_to_stderr(arguments.quiet):
        address = running.address_of(listening)
        if not running.is_local(listening):
            told = (
                "asks for no API key" if settings.api_key is None else "sends keys and pictures unencrypted"
            )
            console.warn(f"{arguments.host} can be reached from other machines, and the service {told}")
        console.say(f"{address}  loading {settings.model}")

        def started() -> None:
            console.say(f"{address}  ready; Ctrl-C stops it")
            if ready is not None:
                ready(address)

        running.serve(create_app(settings), listening, started)
    console.note("stopped")
    return 0

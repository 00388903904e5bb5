"""The service over HTTP as a deployment of Ray Serve, with as many replicas as there is work for.

    serve run topos_rt.server.deployment:app
    serve run topos_rt.server.deployment:app model=mini results=/shared/heads max_replicas=8 cpus=2

Arguments are the fields of `topos_rt.server.settings.Settings` and those of `Scale`; the API key comes from
the environment variable TOPOS_RT_API_KEY, since everybody on a machine can read the arguments of a command.
"""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topos_rt.errors import MissingExtraError, OptionError, did_you_mean, shortened
from topos_rt.server.settings import Settings

NAME = "topos_rt"
KEY = "TOPOS_RT_API_KEY"
_MOST_REPLICAS = 1024
_MOST_CORES = 1024


@dataclass(frozen=True)
class Scale:
    """How many replicas there may be, and what each takes of a machine. Raises OptionError.

    Replicas are added while more requests than `Settings.workers` are under way in each, and removed when
    there are fewer. max_replicas: None is 1 where heads are kept in memory, which no other replica sees,
    else 4. cpus: cores, and threads, of a replica. gpus: of a replica; a part of one can be shared.
    """

    min_replicas: int = 1
    max_replicas: int | None = None
    cpus: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        most = max(1, self.min_replicas) if self.max_replicas is None else self.max_replicas
        for name, value, low, high in (
            ("min_replicas", self.min_replicas, 0, _MOST_REPLICAS),
            ("max_replicas", most, max(1, self.min_replicas), _MOST_REPLICAS),
            ("cpus", self.cpus, 1, _MOST_CORES),
            ("gpus", self.gpus, 0, 64),
        ):
            if not low <= value <= high:
                raise OptionError(name, got=value, expected=f"a number from {low:,} to {high:,}")


def app(arguments: Mapping[str, Any]) -> Any:
    """Return the application, as `serve run` and a Serve config file ask for it.

    Raises OptionError for arguments that are unknown or out of range, MissingExtraError without Ray Serve.
    """
    settings, scale = settled(arguments)
    try:
        from ray import serve
    except ImportError as error:
        raise MissingExtraError.needs("the deployment on Ray Serve", "ray") from error

    def build() -> Any:
        """Make the application of a replica. It gets requests only when this has returned."""
        from topos_rt.pipeline import HeadPipeline
        from topos_rt.server import create_app

        engines: dict[str, Any] = {"backend": settings.backend, "precision": settings.precision}
        pipeline = HeadPipeline.open(settings.model, threads=settings.threads, **engines)
        pipeline.warm_up()
        return create_app(settings, pipeline)

    deployment = serve.deployment(
        serve.ingress(build)(),
        name=NAME,
        # The service has a queue of its own, which answers 429 when it is full; Serve's must not be shorter.
        max_ongoing_requests=settings.connections,
        autoscaling_config={
            "min_replicas": scale.min_replicas,
            "max_replicas": scale.max_replicas,
            "target_ongoing_requests": settings.workers,
        },
        ray_actor_options={"num_cpus": scale.cpus, "num_gpus": scale.gpus},
        graceful_shutdown_timeout_s=settings.drain_s + settings.deadline_s,
    )
    return deployment.bind()


def settled(arguments: Mapping[str, Any]) -> tuple[Settings, Scale]:
    """Return what arguments, as text or as values, ask for. Raises OptionError."""
    kinds = {**typing.get_type_hints(Settings), **typing.get_type_hints(Scale)}
    del kinds["api_key"]
    given: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in kinds:
            known = ", ".join(sorted(kinds))
            raise OptionError(
                f"unknown argument {shortened(name, 40)!r}",
                expected=f"one of: {known}",
                fix=did_you_mean(name, kinds),
            )
        given[name] = _read(name, value, kinds[name])
    of_scale = {field.name for field in dataclasses.fields(Scale)}
    scale = Scale(**{name: value for name, value in given.items() if name in of_scale})
    own = {name: value for name, value in given.items() if name not in of_scale}
    settings = Settings(**{"threads": scale.cpus, **own, "api_key": os.environ.get(KEY) or None})
    alone = settings.results is None
    most = scale.max_replicas or max(scale.min_replicas, 1 if alone else 4)
    if alone and most > 1:
        raise OptionError(
            "max_replicas",
            got=f"{most}, with heads in the memory of each replica",
            expected="1, or a directory for heads: a request for one may reach any replica",
            fix="results=DIR, on a file system that all machines share",
        )
    return settings, dataclasses.replace(scale, max_replicas=most)


def _read(name: str, value: Any, kind: Any) -> Any:
    """Return a value of the command line or of a config file as the type of its field. Raises OptionError."""
    if isinstance(kind, types.UnionType):  # only `X | None` occurs
        kind = typing.get_args(kind)[0]
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if kind in (int, float, str, Path):
            return kind(value)
        return tuple(value.split(",")) if isinstance(value, str) else tuple(value)  # names
    except (KeyError, TypeError, ValueError) as error:
        what = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
        raise OptionError(name, got=shortened(repr(value), 40), expected=what) from error

"""What a service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from topos_rt.server.service import Service

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
MEDIA_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The counters of one application, in a registry of their own."""

    def __init__(self, service: Service) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "topos_rt_requests", "Answers to requests", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "topos_rt_request_seconds",
            "Time to the last byte",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.heads = Counter("topos_rt_heads", "Heads that were made", ["kind"], registry=registry)
        self.stages = Histogram(
            "topos_rt_stage_seconds",
            "Time of a head's stages",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.problems = Counter(
            "topos_rt_problems", "Answers that were problems", ["kind"], registry=registry
        )
        self.frames = Counter("topos_rt_mirror_frames", "Frames that were followed", registry=registry)
        self.sockets = Gauge("topos_rt_websockets", "Open WebSockets", ["route"], registry=registry)
        kept = service.kept_now
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "topos_rt_ready": ("Whether the model is loaded", lambda: service.ready),
            "topos_rt_queue_waiting": ("Requests that wait for a worker", lambda: service.desk.waiting),
            "topos_rt_queue_running": ("Requests at work", lambda: service.desk.running),
            "topos_rt_files_waiting": ("Files that wait to be written", lambda: service.files.waiting),
            "topos_rt_upload_bytes": ("Bytes of bodies that are held", lambda: service.uploads),
            "topos_rt_kept_heads": ("Heads that can be fetched", lambda: kept()[0]),
            "topos_rt_kept_bytes": ("Bytes that they take", lambda: kept()[1]),
        }
        for name, (about, value) in gauges.items():
            Gauge(name, about, registry=registry).set_function(value)

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

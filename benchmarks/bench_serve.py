"""Load `topos-rt serve` with clients for some minutes, and watch latencies, errors and memory.

python -m benchmarks.bench_serve [--minutes 10] [--clients 8] [--json benchmarks/results/serve.json]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from websockets.sync.client import connect

from benchmarks.report import report
from topos_rt import Bundle, __version__
from topos_rt.bench.machine import load_average
from topos_rt.bench.work import model_facts
from topos_rt.errors import BackendError

RESULT = Path(__file__).parent / "results" / "serve.json"
PORTRAIT = Path(__file__).parents[1] / "examples" / "hopper.jpg"
KEPT_MIB = 64  # filled long before the end, so that memory can be flat
WARM_UP = 0.3  # of the time, after which memory may not grow
LIMIT = 0.05  # of growth
STREAMS, FRAMES, FRAME = 8, 60, (640, 480)
_BORDER = "8f0e2c5b"
_GLTF = b"glTF"


@dataclass
class Heard:
    """What the clients saw: kind of request -> seconds of each; and what went wrong."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, seconds: float) -> None:
        with self.lock:
            self.seconds.setdefault(kind, []).append(seconds)

    def fail(self, what: str) -> None:
        with self.lock:
            self.errors.append(what[:200])


def form(picture: bytes, **options: object) -> bytes:
    """Return the body of a form with a picture and options."""
    parts = [
        f'--{_BORDER}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in options.items()
    ]
    head = f'--{_BORDER}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    return ("".join(parts) + head).encode() + picture + f"\r\n--{_BORDER}--\r\n".encode()


@contextlib.contextmanager
def service(model: str, *words: str) -> Iterator[tuple[int, int]]:
    """Start a service in a process of its own, and yield its process id and port once it is ready."""
    command = [sys.executable, "-m", "topos_rt", "serve", "--port", "0", "--quiet", "--model", model]
    command += ["--keep-mib", str(KEPT_MIB), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        line = next((line for line in lines if "  ready" in line), None)
        if line is None:
            raise BackendError("the service", got="an end before it was ready", fix="see what it said above")
        yield process.pid, int(line.split()[0].rpartition(":")[2])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def resident(process: int) -> int:
    """Return the bytes of memory of a process that are in use."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def client(port: int, number: int, ends: float, heard: Heard) -> None:
    """Make heads and fetch their files, one after the other, until it is time to end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    body, seed = form(PORTRAIT.read_bytes(), preset="fast", seeds=number), number
    headers = {"Content-Type": f"multipart/form-data; boundary={_BORDER}"}

    def ask(kind: str, method: str, path: str, data: bytes | None = None) -> bytes | None:
        started = time.perf_counter()
        connection.request(method, path, data, headers if data else {})
        answer = connection.getresponse()
        content = answer.read()
        heard.note(kind, time.perf_counter() - started)
        if answer.status not in (200, 201):
            heard.fail(f"{kind}: {answer.status} {content.decode(errors='replace')}")
            return None
        return content

    while time.monotonic() < ends:
        try:
            made = ask("POST /v1/heads", "POST", "/v1/heads", body)
            if made is None:
                continue
            (entry,) = json.loads(made)["heads"]
            glb = ask("GET .glb", "GET", entry["links"]["glb"])
            if glb is not None and (not glb.startswith(_GLTF) or entry["seed"] != seed):
                heard.fail("a head that is not the one that was asked for")
        except (OSError, http.client.HTTPException, ValueError) as error:
            heard.fail(f"{type(error).__name__}: {error}")
            connection.close()


def loaded(process: int, port: int, clients: int, seconds: float) -> dict[str, Any]:
    """Let the clients ask at once, and sample the memory of the service every second."""
    heard, started = Heard(), time.monotonic()
    threads = [
        threading.Thread(target=client, args=(port, number, started + seconds, heard))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    samples = []
    while any(thread.is_alive() for thread in threads):
        samples.append(resident(process))
        time.sleep(1)
    passed = time.monotonic() - started
    steady = samples[round(len(samples) * WARM_UP) :]
    tenth = max(1, len(steady) // 10)
    first, last = (float(np.median(part)) for part in (steady[:tenth], steady[-tenth:]))
    return {
        "clients": clients,
        "seconds": round(passed, 1),
        "heads": len(heard.seconds.get("POST /v1/heads", ())),
        "heads_per_second": round(len(heard.seconds.get("POST /v1/heads", ())) / passed, 2),
        "latency_s": {kind: spread(values) for kind, values in sorted(heard.seconds.items())},
        "errors": len(heard.errors),
        "first_errors": heard.errors[:5],
        "resident_bytes": {"start": samples[0], "after_warm_up": first, "end": last, "most": max(samples)},
        "growth": round(last / first - 1, 4),
    }


def spread(seconds: list[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the longest."""
    half, most = (float(value) for value in np.percentile(seconds, (50, 99)))
    return {"p50": round(half, 4), "p99": round(most, 4), "max": round(max(seconds), 4)}


def live(port: int) -> dict[str, Any]:
    """Measure one client of the WebSockets alone: the first preview of a head, and frames of a mirror."""
    picture, first, whole = PORTRAIT.read_bytes(), [], []
    for _ in range(STREAMS):
        with connect(f"ws://127.0.0.1:{port}/v1/heads/stream", max_size=None) as socket:
            started = time.perf_counter()
            socket.send(json.dumps({"options": {"preset": "fast"}, "seeds": [0]}))
            socket.send(picture)
            seen = False
            for message in socket:
                if isinstance(message, bytes) and not seen:
                    first.append(time.perf_counter() - started)
                    seen = True
            whole.append(time.perf_counter() - started)
    file = io.BytesIO()
    with Image.open(PORTRAIT) as image:
        image.convert("RGB").resize(FRAME).save(file, "JPEG")
    frames = []
    with connect(f"ws://127.0.0.1:{port}/v1/track", max_size=None) as socket:
        for number in range(FRAMES + 5):
            started = time.perf_counter()
            socket.send(file.getvalue())
            socket.recv()
            if number >= 5:  # the first ones load the networks
                frames.append(time.perf_counter() - started)
    return {
        "first_preview_s": spread(first),
        "whole_stream_s": spread(whole),
        "mirror_frame_s": spread(frames),
        "mirror_frames_per_second": round(len(frames) / sum(frames), 1),
    }


def measure(minutes: float, clients: int, model: str, note: str) -> dict[str, Any]:
    """Start a service, and measure it alone and under load."""
    with service(model) as (process, port):
        alone = live(port)
        print(alone, flush=True)
        load = loaded(process, port, clients, 60 * minutes)
    return {
        "topos_rt": __version__,
        "model": model_facts(Bundle.open(model)),
        "machine": {"load_average": load_average()},
        "note": note,
        "preset": "fast",
        "kept_mib": KEPT_MIB,
        "limit": LIMIT,
        "flat": load["growth"] <= LIMIT,
        "live": alone,
        "load": load,
    }


def main() -> int:
    """Run as the command line says; the exit code is 1 where a request failed or memory grew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--note", default="", help="what else ran on the machine")
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    given = (arguments.minutes, arguments.clients, arguments.model, arguments.note)
    code = report(lambda: measure(*given), arguments.json)
    if code:
        return code
    found = json.loads(arguments.json.read_text())
    print(json.dumps(found["load"], indent=1))
    return 0 if found["flat"] and not found["load"]["errors"] else 1


if __name__ == "__main__":
    sys.exit(main())

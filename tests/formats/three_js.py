"""A view of a GLB in three.js: a headless Chromium runs tests/js/viewer.js."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

JS = Path(__file__).parent.parent / "js"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".json": "application/json"}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--disable-background-networking", "--disable-extensions", "--mute-audio",
)  # fmt: skip


def browser() -> str | None:
    """Return the path of Chromium; TOPOS_RT_CHROMIUM names one that is not on the PATH."""
    named = os.environ.get("TOPOS_RT_CHROMIUM")
    return named or next((path for path in map(shutil.which, _BROWSERS) if path), None)


def look(glb: bytes, job: dict[str, Any], timeout: float = 240) -> dict[str, bytes]:
    """Return what viewer.js sends for a GLB and a job. Raises RuntimeError with its message if it fails."""
    results: dict[str, bytes] = {}
    finished = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            own = {"/head.glb": glb, "/job.json": json.dumps(job).encode()}
            path = self.path.partition("?")[0]
            file = JS / path.lstrip("/")
            data = own.get(path)
            if data is None and ".." not in path and file.is_file():
                data = file.read_bytes()
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Type", _TYPES.get(Path(path).suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def do_POST(self) -> None:
            name = self.path.rpartition("/")[2]
            results[name] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            if name in ("done", "error"):
                finished.set()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        url = f"http://127.0.0.1:{server.server_port}/viewer.html"
        command = [browser() or "chromium", *_FLAGS, f"--user-data-dir={profile}", url]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if not finished.wait(timeout):
                raise RuntimeError(f"three.js: not done within {timeout:.0f} s; got {sorted(results)}")
        finally:
            running.terminate()
            running.wait(30)
            server.shutdown()
            server.server_close()
    if "error" in results:
        raise RuntimeError(f"three.js: {results['error'].decode()}")
    return results

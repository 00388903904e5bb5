"""Fill the tables of docs/serve.md from `benchmarks/results/`: `python docs/make_serve_tables.py`."""

from __future__ import annotations

from pages import ROOT, Tables, read, rewrite, table

PAGE = ROOT / "docs" / "serve.md"
RESULT = "serve"
_LIVE = {
    "first_preview_s": "a picture → the first preview of its head",
    "whole_stream_s": "a picture → all previews and the textured head",
    "mirror_frame_s": "a frame of 640 x 480 → the face in it",
}


def _alone() -> str:
    live = read(RESULT)["live"]
    rows = [[label, *_milliseconds(live[name])] for name, label in _LIVE.items()]
    return table(["one client, ms", "p50", "p99"], rows)


def _load() -> str:
    load = read(RESULT)["load"]
    rows = [[kind, *_milliseconds(times)] for kind, times in load["latency_s"].items()]
    return table([f"{load['clients']} clients, ms", "p50", "p99"], rows)


def _milliseconds(times: dict[str, float]) -> list[str]:
    return [f"{1000 * times[name]:.0f}" for name in ("p50", "p99")]


def _told() -> str:
    result = read(RESULT)
    load, machine = result["load"], result["machine"]
    memory = load["resident_bytes"]
    mib = {name: f"{memory[name] / 2**20:.0f}" for name in ("after_warm_up", "end")}
    return (
        f"{machine['cpu']}, {machine['cores']} cores with a load average of {machine['load_average']:.0f} at"
        f" the end, so that clocks show other work, too. In {load['seconds'] / 60:.0f} minutes there were"
        f" {load['heads']} heads and {load['errors']} errors; memory was {mib['after_warm_up']} MiB after"
        f" the warm-up and {mib['end']} MiB at the end."
    )


TABLES: Tables = {"serve-alone": _alone, "serve-load": _load, "serve-told": _told}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)

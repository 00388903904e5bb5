"""Tables in pages, each between `<!-- name -->` and `<!-- /name -->`. No number in them is hand-written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from topos_rt.bench.work import model_digest
from topos_rt.flow.settings import PRESETS
from topos_rt.model.bundle import Bundle
from topos_rt.support.files import write_atomic
from training.digests import digests

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
Tables = Mapping[str, Callable[[], str]]
# Result -> what measures it anew, {} being its file: all that depend on `mini`, to be run for new weights.
COMMANDS = {
    "batch_mini": "python -m benchmarks.bench_batch --json {}",
    "compare_mini_cpu": "python -m export compare mini --json {}",
    **{
        f"cpu_mini_{preset}": f"topos-rt bench examples/astronaut.jpg --preset {preset} -o {{}}"
        for preset in PRESETS
    },
    "eightbit_mini": "python -m benchmarks.bench_eightbit --shards SHARDS --json {}",
    "errors_h100_mini": "python -m benchmarks.gpu_run precision, on an H100",
    "face_fit_mini": "python -m benchmarks.bench_face_fit --pictures 60 --shards SHARDS --json {}",
    "files_mini": "python -m benchmarks.bench_files CASES --against CHECKOUT --json {}",
    "fp16_mini": "python -m benchmarks.bench_precision --shards SHARDS --json {}",
    "graph_h100_mini": "python -m benchmarks.gpu_run graph, on an H100",
    "landmark_pull_mini": "python -m benchmarks.bench_landmark_pull --bundle topos_rt/bundles/mini"
    " --held-out SHARDS --photos D --json {}",
    "lods_mini": "python -m benchmarks.bench_lods --json {}",
    "mini_evidence_now": "python -m training.ablations --bundle topos_rt/bundles/mini"
    " --pictures D --evidence D --held-out D --held-out-evidence D --json {}",
    "mini_quality": "python -m training.evaluate --bundle topos_rt/bundles/mini --held-out SHARDS --json {}",
    "own_grid_mini": "python -m benchmarks.bench_own_grid --json {}",
    "photographs_mini": "python -m training.photographs --bundle topos_rt/bundles/mini --photos D --json {}",
    "retopologize_mini": "python -m benchmarks.bench_retopologize --json {}",
    "rig_mini": "python -m benchmarks.bench_rig --json {}",
    "same_weights_mini": "python -m benchmarks.same_weights EARLIER --json {}",
    "sampler_mini": "python -m benchmarks.bench_sampler --shards SHARDS --images 8 --seeds 1 --json {}",
    "serve": "python -m benchmarks.bench_serve --minutes 10 --json {}",
    "sdk": "python -m benchmarks.bench_sdk build/sdk/libtopos_rt.so --record --json {}",
    "soak": "python -m benchmarks.soak --json {}",
    "studio_mini": "python -m benchmarks.bench_studio --json {}",
    "texture_mini": "python -m benchmarks.bench_texture --embedder MODELS.tgz --shards HELD_OUT -o {}",
    "startup_cpu": "python -m benchmarks.bench_startup --against CHECKOUT --json {}",
}


def read(name: str) -> Any:
    """Return a result of `benchmarks/results/`, by its name without suffix.

    Raises ValueError for a result of another model than the bundled one, see `fault`.
    """
    result = json.loads((RESULTS / f"{name}.json").read_text())
    if found := fault(result):
        command = COMMANDS.get(name, "measure it again").format(f"benchmarks/results/{name}.json")
        raise ValueError(f"{name}.json: {found}; fix: {command}")
    return result


def measured(name: str) -> bool:
    """Return whether there is such a result for the weights that ship."""
    return (RESULTS / f"{name}.json").exists()


def fault(result: Any) -> str | None:
    """Return why a page may not quote a result, or None.

    Every result says of which model it is, at its key "model": what `topos_rt.bench.work.model_facts` makes
    of a bundle; null, or "random…", where no trained weights take part. The digest of `mini` has to be that
    of the bundle in the package, or of an earlier export of the same weights.
    """
    models = list(_models(result))
    if not models:
        return 'got no key "model"; expected the model that was measured, or null where weights do not matter'
    for model in models:
        if isinstance(model, dict) and model["name"] == "mini" and model["sha256"] not in bundled_digests():
            return f"got model {model['sha256'][:12]}; expected the bundled {bundled_digest()[:12]}"
        if isinstance(model, str) and not model.startswith("random"):
            return f"got model {model!r} without its digest"
    return None


@cache
def bundled_digest() -> str:
    """Return the digest of the model that ships."""
    return model_digest(Bundle.open("mini"))


@cache
def bundled_digests() -> frozenset[str]:
    """Return it with that of the export before, where the weights are the same (`training/digests.py`)."""
    return digests(Bundle.open("mini"))


def _models(found: Any) -> Iterator[Any]:
    """Yield what stands at every key "model" of a JSON value."""
    if isinstance(found, dict):
        yield from [found["model"]] if "model" in found else []
        yield from (model for value in found.values() for model in _models(value))
    elif isinstance(found, list):
        yield from (model for value in found for model in _models(value))


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def filled(page: str, tables: Tables) -> str:
    """Return a page with every table made again. Raises ValueError if a table has no place, or several."""
    for name, make in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page, count = pattern.subn(lambda found, make=make: f"{found[1]}{make()}\n{found[2]}", page)
        if count != 1:
            raise ValueError(f"got {count} places for the table {name!r}; expected 1")
    return page


def rewrite(path: Path, tables: Tables) -> None:
    """Fill a page's tables, and write the page."""
    write_atomic(path, filled(path.read_text(), tables).encode())

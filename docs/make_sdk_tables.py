"""Fill the table of docs/embedding.md from the results: `python docs/make_sdk_tables.py`."""

from __future__ import annotations

from pages import ROOT, Tables, read, rewrite, table

PAGE = ROOT / "docs" / "embedding.md"
RESULT = "sdk"
_KINDS = {
    "without a cache": "without `cache_dir`",
    "filling the cache": "its first load",
    "with the cache": "with what that left",
}


def _costs() -> str:
    found = read(RESULT)["by_kind"]
    kinds = [found[kind] for kind in _KINDS]
    slices = [max(kind["slice_s"].items(), key=lambda item: item[1]) for kind in kinds]
    rows = {
        "`topos_model_load`, s of all cores": [f"{kind['load_cpu_s']['min']:.2f}" for kind in kinds],
        "`topos_model_load`, s": [f"{kind['load_s']['min']:.2f}" for kind in kinds],
        "a warm head with its rig, s of all cores": [f"{kind['head_cpu_s']['min']:.2f}" for kind in kinds],
        "a warm head with its rig, s": [f"{kind['head_s']['min']:.2f}" for kind in kinds],
        "private memory after some heads, MB": [f"{kind['private_bytes'] / 1e6:.0f}" for kind in kinds],
        "pages of files besides, MB": [f"{kind['mapped_bytes'] / 1e6:.0f}" for kind in kinds],
        "the longest step of a manual job, ms": [f"{1e3 * seconds:.0f} ({name})" for name, seconds in slices],
        "`topos_job_poll`, µs": [f"{1e6 * kind['poll_s']:.1f}" for kind in kinds],
        "`topos_write_vertices`, ms": [f"{1e3 * kind['write_s']:.2f}" for kind in kinds],
        "cancelling, at most, ms": [f"{1e3 * kind['cancel_s']['max']:.1f}" for kind in kinds],
    }
    return table(["", *_KINDS.values()], [[name, *values] for name, values in rows.items()])


def _facts() -> str:
    result = read(RESULT)
    machine, kind = result["machine"], result["by_kind"]["with the cache"]
    return (
        f"`mini`, {result['threads']} threads, the quickest of {kind['load_s']['n']} processes and "
        f"{kind['head_s']['n']} heads: the machine was busy with other work (load average "
        f"{machine['load_average_before']:.0f} on {machine['cores']} cores). The library has "
        f"{result['library_bytes'] / 1e6:.1f} MB, and the folder of the cache "
        f"{result['cache_bytes'] / 1e6:.0f} MB."
    )


TABLES: Tables = {"costs": _costs, "facts": _facts}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)

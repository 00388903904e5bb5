"""What `bench_startup` runs with the sources of a checkout: it makes a GLB for each line of input.

    python benchmarks/startup_worker.py PORTRAIT

It answers each line, a seed, with one line: the milliseconds of wall clock and of processor time of the head,
and of both of the GLB. It uses only what every version of topos_rt has.
"""

from __future__ import annotations

import itertools
import sys
import time


def main() -> None:
    """Open the model, then make one head for each line until there are no more."""
    from topos_rt import HeadPipeline
    from topos_rt.formats import ExportOptions, write_glb

    with HeadPipeline.open("mini", "onnxruntime") as pipe:
        for line in sys.stdin:
            times = [(time.perf_counter(), time.process_time())]
            head = pipe(sys.argv[1], seed=int(line), texture="none")
            times.append((time.perf_counter(), time.process_time()))
            write_glb(head, ExportOptions())
            times.append((time.perf_counter(), time.process_time()))
            pairs = itertools.pairwise(times)
            laps = [1e3 * (after[k] - before[k]) for before, after in pairs for k in (0, 1)]
            print(*laps, flush=True)


if __name__ == "__main__":
    main()

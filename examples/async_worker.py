"""Many requests, one pipeline: heads in threads, with a limit, a deadline and cancellation.

python examples/async_worker.py OUT PORTRAIT...
"""

import asyncio
import sys
import threading
from pathlib import Path

from topos_rt import HeadPipeline


async def glb_of(pipe: HeadPipeline, picture: bytes, places: asyncio.Semaphore, seconds: float) -> bytes:
    """Return the head of a picture as GLB. Past the deadline, or once cancelled, the work stops, too."""
    stopped = threading.Event()

    def work() -> bytes:
        return pipe(picture, preset="fast", callback=lambda _: not stopped.is_set()).to_bytes("glb")

    try:
        async with places:
            return await asyncio.wait_for(asyncio.to_thread(work), seconds)
    finally:
        stopped.set()  # nothing can kill a thread: the callback ends it at its next step


async def main(pipe: HeadPipeline, out: Path, portraits: list[Path]) -> None:
    places = asyncio.Semaphore(2)  # more would take memory and gain little: engines take turns
    calls = [glb_of(pipe, portrait.read_bytes(), places, seconds=60) for portrait in portraits]
    for portrait, made in zip(portraits, await asyncio.gather(*calls, return_exceptions=True), strict=True):
        if isinstance(made, bytes):
            (out / f"{portrait.stem}.glb").write_bytes(made)
        print(f"{portrait.name}: {'done' if isinstance(made, bytes) else repr(made)}")


if __name__ == "__main__":
    with HeadPipeline.open("mini") as opened:  # closed after the last thread has ended
        asyncio.run(main(opened, Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))

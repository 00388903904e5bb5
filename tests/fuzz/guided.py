"""Fuzz one target, guided by coverage, with atheris: `python -m tests.fuzz.guided TARGET [options]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Instrument the code of this package, then let libFuzzer run."""
    import atheris

    with atheris.instrument_imports(include=["topos_rt", "export", "models"]):
        import topos_rt.head.rig
        import topos_rt.model.bundle
        import topos_rt.pictures.image
        import topos_rt.scan.read  # noqa: F401
        from tests.fuzz.targets import corpus, feed
    name, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as directory:
        seeds, work = Path(directory, "seeds"), Path(directory, "work")
        seeds.mkdir()
        work.mkdir()
        for number, data in enumerate(corpus(name)):
            (seeds / str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], str(seeds), *options], lambda data: feed(name, data, work) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

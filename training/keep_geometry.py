"""Give a new `mini` the geometry of an earlier one with the same VAE.

    python -m training.keep_geometry --earlier topos_rt/bundles/mini --bundle BUNDLE

Topology with its levels of detail, rig, atlas, landmarks and parts are made by optimisers whose last digits
depend on the machine. With those of the earlier bundle, what was made for its heads fits the new ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from topos_rt.errors import InputError
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.support.directories import replacing
from topos_rt.support.files import write_atomic

FILES = ("topology", "hierarchy", "rig", "landmarks", "atlas", "parts")


def keep(earlier: Bundle, bundle: Bundle) -> None:
    """Copy the files. Raises InputError for bundles whose heads have other polygons, or that lack a file."""
    if not np.array_equal(earlier.topology.polygon_vertices, bundle.topology.polygon_vertices):
        raise InputError("the earlier bundle", got="other polygons", expected="those of the new one")
    with replacing(bundle.path, keep=True) as staging:
        for name in FILES:
            file = f"{name}.safetensors"
            write_atomic(staging / file, (earlier.path / file).read_bytes())
        write_manifest(staging, bundle.manifest)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--earlier", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    args = parser.parse_args()
    keep(Bundle.open(args.earlier), Bundle.open(args.bundle))


if __name__ == "__main__":
    main()

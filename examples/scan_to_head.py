"""A scan gets the model's topology, and with it UVs, a rig and 52 blendshapes.

    python examples/scan_to_head.py SCAN [HEAD.glb]

SCAN is a mesh or point cloud of a head in metres (.ply, .obj, .stl, .glb, .npy …), in any orientation.
It needs SciPy: pip install 'topos-rt[mesh]'.
"""

import sys

import topos_rt

if len(sys.argv) < 2:
    sys.exit("usage: python examples/scan_to_head.py SCAN [HEAD.glb]")
out = sys.argv[2] if len(sys.argv) > 2 else "head.glb"
try:
    scan = topos_rt.read_scan(sys.argv[1])
    with topos_rt.HeadPipeline.open("mini") as pipe:
        head = pipe.retopologize(scan.points, scan.normals, align=True)
    distance = topos_rt.compare(head, scan)
except topos_rt.ToposError as error:
    sys.exit(f"error: {error}")
head.save(out)
print(f"{out}: {len(scan.points):,} points became {len(head.positions):,} vertices")
print(f"the two are {distance.chamfer_l1_mm:.2f} mm apart, on average over their surfaces")

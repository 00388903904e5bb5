"""Pictures of people to train on: MakeHuman heads with skins, hair, eyes, teeth, clothes, lights and a camera.

`training.render` writes them as shards. The files from the bottom up: `textures` and `raster` know pixels;
`shading`, `hairshading` and `film` know light and lenses; `assets` reads MakeHuman's files; `body` is the mesh
of head, teeth, lashes and shoulders; `people`, `wear`, `fur`, `views`, `lights`, `backdrops` and `occluders`
draw what differs from picture to picture; `scene` puts one picture together, and `shards` keeps them.
"""

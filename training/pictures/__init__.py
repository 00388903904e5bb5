"""Pictures of people to train on: MakeHuman heads with skins, hair, eyes, teeth, clothes and lights.

`training.render` writes them as shards. From the bottom up: `textures` and `raster` know pixels, `lighting`,
`materials` and `shading` know light, `assets` reads MakeHuman's files, `body` and `fields` are the mesh and
what is where on it, `people` draws people, `figure`, `fur` and `wear` make their surfaces, `views`, `lights`,
`backdrops` and `occluders` draw what differs from picture to picture, `film` is the camera's part, `picture`
takes a picture, and `shards` keeps them. docs/training_pictures.md shows some.
"""

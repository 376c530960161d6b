"""Pure functions on tensors: rotations, cameras, heatmaps, meshes and point sampling."""

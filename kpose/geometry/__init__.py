"""Pure functions on tensors: rotations, cameras, heatmaps, masks, meshes and point sampling."""

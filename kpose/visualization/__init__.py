"""Pictures of predictions: silhouettes, meshes and keypoints on photos, heatmaps, turning meshes, sheets, plots.

Every function that draws returns a float RGB tensor ``(3, H, W)`` in [0, 1] on the device of its input; a moving
picture is a stack of them, and a plot a figure of Matplotlib. None opens a window.
Positions and cameras are in pixels of the picture that is drawn on (`kpose.geometry` converts).
"""

from kpose.visualization.animation import VideoWriter, import_av, save_animation
from kpose.visualization.mesh import mesh_views, shaded_mesh, turntable
from kpose.visualization.photo import draw_keypoints, overlay, overlay_mesh
from kpose.visualization.photo_color import paint_by_photo
from kpose.visualization.pictures import from_pillow, heatmap_image, image_grid, to_pillow
from kpose.visualization.scores import compare

__all__ = [
    "VideoWriter",
    "compare",
    "draw_keypoints",
    "from_pillow",
    "heatmap_image",
    "image_grid",
    "import_av",
    "mesh_views",
    "overlay",
    "overlay_mesh",
    "paint_by_photo",
    "save_animation",
    "shaded_mesh",
    "to_pillow",
    "turntable",
]

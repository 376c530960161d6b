"""Functions of tensors: rotations, cameras, heatmaps, masks, meshes and point sampling."""

from kpose.geometry._mask import mask_iou, mask_to_box
from kpose.geometry._mesh import (
    vertex_normals,
)
from kpose.geometry._sampling import farthest_point_sampling
from kpose.geometry.camera import (
    apply_crop,
    box_to_crop,
    crop_camera,
    flip_camera,
    normalized_to_pixels,
    perspective_to_weak,
    pixels_to_normalized,
    project,
    project_perspective,
    to_image_frame,
    uncrop_camera,
    undo_crop,
    weak_to_perspective,
)
from kpose.geometry.interchange import to_blender, to_opencv, to_pytorch3d
from kpose.geometry.rotation import (
    axis_angle_to_matrix,
    geodesic_distance,
    gram_schmidt,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    matrix_to_viewpoint,
    mirror_points,
    procrustes,
    quaternion_to_matrix,
    random_rotation,
    rotation_grid,
    viewpoint_to_matrix,
)

__all__ = [
    "apply_crop",
    "axis_angle_to_matrix",
    "box_to_crop",
    "crop_camera",
    "farthest_point_sampling",
    "flip_camera",
    "geodesic_distance",
    "gram_schmidt",
    "mask_iou",
    "mask_to_box",
    "matrix_to_axis_angle",
    "matrix_to_quaternion",
    "matrix_to_viewpoint",
    "mirror_points",
    "normalized_to_pixels",
    "perspective_to_weak",
    "pixels_to_normalized",
    "procrustes",
    "project",
    "project_perspective",
    "quaternion_to_matrix",
    "random_rotation",
    "rotation_grid",
    "to_blender",
    "to_image_frame",
    "to_opencv",
    "to_pytorch3d",
    "uncrop_camera",
    "undo_crop",
    "vertex_normals",
    "viewpoint_to_matrix",
    "weak_to_perspective",
]

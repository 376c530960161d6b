"""Kernels of `kpose.rendering.warp`, in the language that NVIDIA Warp compiles for CPU and CUDA.

Each launch has a thread for every image and face. On a CPU the threads of a launch run one after the other, faces
in order: pixels need no atomic operations, and faces are left to `kpose.rendering.warp_lanes`. Elsewhere
``parallel`` is set.

The rules are those of `kpose.rendering.rasterize` and `kpose.rendering.blend`: pixels within a radius of a face,
a nearest edge whose nearest point is held fixed in the gradient, z-buffer rows that leave no cracks. Warp reads the
source of these functions: annotations are its types and are not postponed, a variable that a loop changes is made
by ``float()``, and the extra is imported at the top.
"""

import inspect
import sys
from collections.abc import Callable
from typing import Any, no_type_check

from kpose.rendering.rasterize import MAX_COORDINATE, MIN_AREA
from kpose.rendering.warp_lanes import COVER_FACE, FACE_GRADIENT

_IS_OURS = "warp" not in sys.modules

import warp as wp  # noqa: E402

if _IS_OURS:  # quiet, unless somebody else has imported it before
    wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_MAX_EXPONENT = 20.0


def _kernel(function: Callable[..., None]) -> Any:
    """Make a kernel; shape checks, which tests put around functions, are no code that Warp can read."""
    return wp.kernel(inspect.unwrap(function))


def _function(function: Callable[..., Any]) -> Any:
    return wp.func(inspect.unwrap(function))


def _native(body: str) -> Callable[[Callable[..., None]], Any]:
    return lambda function: wp.func_native(body)(inspect.unwrap(function))


@_function
@no_type_check
def is_valid(corner: wp.vec3):
    """Whether a corner is finite and not too far."""
    return (
        wp.abs(corner[0]) <= MAX_COORDINATE
        and wp.abs(corner[1]) <= MAX_COORDINATE
        and wp.abs(corner[2]) <= MAX_COORDINATE
    )


@_function
@no_type_check
def signed_area(a: wp.vec3, b: wp.vec3, c: wp.vec3):
    """Twice the signed area of the projection, negative for a face seen from the front."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


@_function
@no_type_check
def is_drawn(area: float, cull: int):
    """Whether a face has an area, and is seen from the front where back faces are left out."""
    size = wp.abs(area)
    if cull != 0:
        size = -area
    return size > MIN_AREA


@_function
@no_type_check
def first_pixel(low: float, count: int):
    """First pixel whose center is not before ``low``."""
    return int(wp.clamp(wp.ceil((low + 1.0) * (float(count) / 2.0) - 0.5), 0.0, float(count)))


@_function
@no_type_check
def last_pixel(high: float, count: int):
    """Last pixel whose center is not after ``high``, -1 if there is none."""
    return int(wp.clamp(wp.floor((high + 1.0) * (float(count) / 2.0) - 0.5), -1.0, float(count) - 1.0))


@_function
@no_type_check
def center_of(pixel: int, count: int):
    """Normalized coordinate of a pixel's center."""
    return (2.0 * float(pixel) + 1.0) / float(count) - 1.0


@_function
@no_type_check
def along_edges(x: wp.vec3, y: wp.vec3):
    """Directions of the edges from corner k to corner k + 1, and their lengths."""
    run = wp.vec3(x[1] - x[0], x[2] - x[1], x[0] - x[2])
    fall = wp.vec3(y[1] - y[0], y[2] - y[1], y[0] - y[2])
    square = wp.cw_mul(run, run) + wp.cw_mul(fall, fall)
    length = wp.vec3(wp.sqrt(square[0]), wp.sqrt(square[1]), wp.sqrt(square[2]))
    return wp.cw_div(run, length), wp.cw_div(fall, length), length


@_function
@no_type_check
def past_ends(along: wp.vec3, length: wp.vec3):
    """How far points are past the ends of the edges, along them; zero beside an edge."""
    return wp.vec3(
        along[0] - wp.max(wp.min(along[0], length[0]), 0.0),
        along[1] - wp.max(wp.min(along[1], length[1]), 0.0),
        along[2] - wp.max(wp.min(along[2], length[2]), 0.0),
    )


@_native(COVER_FACE)
@no_type_check
def cover_face(
    total: wp.array2d(dtype=float),
    image: int,
    height: int,
    width: int,
    box: wp.vec4i,
    x: wp.vec3,
    y: wp.vec3,
    sigma: float,
    radius: float,
):
    """Gather the coverage of a face in its box, on a CPU."""
    ...


@_native(FACE_GRADIENT)
@no_type_check
def face_gradient(
    weight: wp.array2d(dtype=float),
    image: int,
    height: int,
    width: int,
    box: wp.vec4i,
    x: wp.vec3,
    y: wp.vec3,
    sigma: float,
    radius: float,
    gradient: wp.array2d(dtype=wp.vec3),
    num_vertices: int,
    corners: wp.vec3i,
):
    """Add the gradient of a face's corners, on a CPU."""
    ...


@_function
@no_type_check
def find_box(x: wp.vec3, y: wp.vec3, radius: float, height: int, width: int):
    """First and last row, first and last column of pixels around a face grown by ``radius``."""
    return wp.vec4i(
        first_pixel(wp.min(y) - radius, height),
        last_pixel(wp.max(y) + radius, height),
        first_pixel(wp.min(x) - radius, width),
        last_pixel(wp.max(x) + radius, width),
    )


@_kernel
@no_type_check
def cover(
    vertices: wp.array2d(dtype=wp.vec3),
    faces: wp.array2d(dtype=wp.int32),
    sigma: float,
    radius: float,
    height: int,
    width: int,
    cull: int,
    parallel: int,
    total: wp.array2d(dtype=float),
    broken: wp.array(dtype=wp.int32),
):
    """Gather coverage: ``Π (1 + exp(±d² / sigma)) - 1`` over the faces; if parallel, the logarithm of the product.

    ``broken`` becomes 1 if a corner is not finite or too far, 2 if it is none of the vertices.
    """
    image, face = wp.tid()
    i0 = faces[face, 0]
    i1 = faces[face, 1]
    i2 = faces[face, 2]
    if wp.min(wp.min(i0, i1), i2) < 0 or wp.max(wp.max(i0, i1), i2) >= vertices.shape[1]:
        broken[0] = 2
        return
    a = vertices[image, i0]
    b = vertices[image, i1]
    c = vertices[image, i2]
    if not (is_valid(a) and is_valid(b) and is_valid(c)):
        broken[0] = 1
        return
    area = signed_area(a, b, c)
    x = wp.vec3(a[0], b[0], c[0])
    y = wp.vec3(a[1], b[1], c[1])
    box = find_box(x, y, radius, height, width)
    if box[0] > box[1] or box[2] > box[3] or not is_drawn(area, cull):
        return
    if parallel == 0:
        cover_face(total, image, height, width, box, x, y, sigma, radius)
        return
    along_x, along_y, length = along_edges(x, y)
    for i in range(box[0], box[1] + 1):
        for j in range(box[2], box[3] + 1):
            away_x = wp.vec3(center_of(j, width)) - x
            away_y = wp.vec3(center_of(i, height)) - y
            across = (wp.cw_mul(along_x, away_y) - wp.cw_mul(along_y, away_x)) * wp.sign(area)
            over = past_ends(wp.cw_mul(along_x, away_x) + wp.cw_mul(along_y, away_y), length)
            square = wp.min(wp.cw_mul(over, over) + wp.cw_mul(across, across))
            inside = wp.min(across) >= 0.0
            if inside or square <= radius * radius:
                if not inside:
                    square = -square
                odds = wp.exp(wp.min(square / sigma, _MAX_EXPONENT))
                wp.atomic_add(total, image, i * width + j, wp.log(1.0 + odds))


@_kernel
@no_type_check
def cover_gradient(
    vertices: wp.array2d(dtype=wp.vec3),
    faces: wp.array2d(dtype=wp.int32),
    sigma: float,
    radius: float,
    height: int,
    width: int,
    cull: int,
    parallel: int,
    weight: wp.array2d(dtype=float),
    gradient: wp.array2d(dtype=wp.vec3),
):
    """Add the gradient of the vertices, from that of the logarithm of a pixel's product; see `cover`."""
    image, face = wp.tid()
    corners = wp.vec3i(faces[face, 0], faces[face, 1], faces[face, 2])
    a = vertices[image, corners[0]]
    b = vertices[image, corners[1]]
    c = vertices[image, corners[2]]
    area = signed_area(a, b, c)
    x = wp.vec3(a[0], b[0], c[0])
    y = wp.vec3(a[1], b[1], c[1])
    box = find_box(x, y, radius, height, width)
    if box[0] > box[1] or box[2] > box[3] or not is_drawn(area, cull):
        return
    if parallel == 0:
        face_gradient(weight, image, height, width, box, x, y, sigma, radius, gradient, vertices.shape[1], corners)
        return
    along_x, along_y, length = along_edges(x, y)
    for i in range(box[0], box[1] + 1):
        for j in range(box[2], box[3] + 1):
            away_x = wp.vec3(center_of(j, width)) - x
            away_y = wp.vec3(center_of(i, height)) - y
            across = (wp.cw_mul(along_x, away_y) - wp.cw_mul(along_y, away_x)) * wp.sign(area)
            along = wp.cw_mul(along_x, away_x) + wp.cw_mul(along_y, away_y)
            over = past_ends(along, length)
            squares = wp.cw_mul(over, over) + wp.cw_mul(across, across)
            square = wp.min(squares)
            side = float(1.0)
            if wp.min(across) < 0.0:
                side = -1.0
            if side > 0.0 or square <= radius * radius:
                edge = int(0)
                if squares[1] < squares[0]:
                    edge = 1
                if squares[2] < wp.min(squares[0], squares[1]):
                    edge = 2
                after = (edge + 1) % 3
                slope = weight[image, i * width + j] / (1.0 + wp.exp(-side * square / sigma))
                foot = (along[edge] - over[edge]) / length[edge]
                to_x = away_x[edge] - (along[edge] - over[edge]) * along_x[edge]
                to_y = away_y[edge] - (along[edge] - over[edge]) * along_y[edge]
                pull = wp.vec3(to_x, to_y, 0.0) * (-2.0 * side * slope / sigma)
                wp.atomic_add(gradient, image, corners[edge], pull * (1.0 - foot))
                wp.atomic_add(gradient, image, corners[after], pull * foot)


@_function
@no_type_check
def crossing(start: wp.vec3, end: wp.vec3, line: float):
    """Where an edge crosses a row of pixels, and whether it does. Both faces of an edge get the same value."""
    top = start
    low = end
    if end[1] < start[1] or (end[1] == start[1] and end[0] < start[0]):
        top = end
        low = start
    slope = float(0.0)
    if low[1] - top[1] > 1.0e-30:
        slope = (low[0] - top[0]) / (low[1] - top[1])
    return top[0] + (line - top[1]) * slope, line >= top[1] and line <= low[1]


@_kernel
@no_type_check
def nearest(
    vertices: wp.array2d(dtype=wp.vec3),
    faces: wp.array2d(dtype=wp.int32),
    height: int,
    width: int,
    cull: int,
    stage: int,
    depth: wp.array2d(dtype=float),
    winner: wp.array2d(dtype=wp.int32),
):
    """Find the nearest face at each pixel, of faces at equal depth the first.

    Stage 0 does so one face after the other. In parallel, stage 1 finds the depths, and stage 2 the faces.
    """
    image, face = wp.tid()
    a = vertices[image, faces[face, 0]]
    b = vertices[image, faces[face, 1]]
    c = vertices[image, faces[face, 2]]
    area = signed_area(a, b, c)
    first = first_pixel(wp.min(wp.min(a[1], b[1]), c[1]), height)
    last = last_pixel(wp.max(wp.max(a[1], b[1]), c[1]), height)
    if first > last or not is_drawn(area, cull):
        return
    ab = b - a
    ac = c - a
    slope_x = (ab[2] * ac[1] - ac[2] * ab[1]) / area
    slope_y = (ac[2] * ab[0] - ab[2] * ac[0]) / area
    for i in range(first, last + 1):
        line = center_of(i, height)
        x0, is_crossed0 = crossing(a, b, line)
        x1, is_crossed1 = crossing(b, c, line)
        x2, is_crossed2 = crossing(c, a, line)
        left = float(3.0e38)
        right = float(-3.0e38)
        if is_crossed0:
            left = wp.min(left, x0)
            right = wp.max(right, x0)
        if is_crossed1:
            left = wp.min(left, x1)
            right = wp.max(right, x1)
        if is_crossed2:
            left = wp.min(left, x2)
            right = wp.max(right, x2)
        for j in range(first_pixel(left, width), last_pixel(right, width) + 1):
            here = a[2] + slope_x * (center_of(j, width) - a[0]) + slope_y * (line - a[1])
            pixel = i * width + j
            if stage == 0:
                if here < depth[image, pixel]:
                    depth[image, pixel] = here
                    winner[image, pixel] = face
            elif stage == 1:
                wp.atomic_min(depth, image, pixel, here)
            elif here == depth[image, pixel]:
                wp.atomic_min(winner, image, pixel, face)

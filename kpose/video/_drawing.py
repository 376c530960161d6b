"""Pictures of a frame with the meshes of its objects."""

import colorsys
from collections.abc import Iterable

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from kpose.geometry import crop_camera, project
from kpose.structures import Crop
from kpose.video.frames import Frame
from kpose.video.predictor import ObjectPrediction
from kpose.visualization import from_pillow, overlay_mesh, to_pillow

__all__ = ["draw_objects", "object_color", "side_by_side"]

GOLDEN = 0.618034


def object_color(identity: int) -> tuple[float, float, float]:
    """Return the color of an object: orange for the first, as different as can be for the next ones.

    Example:
        >>> object_color(1)
        (1.0, 0.516, 0.12)
    """
    red, green, blue = colorsys.hsv_to_rgb((0.075 + GOLDEN * (identity - 1)) % 1.0, 0.88, 1.0)
    return round(red, 3), round(green, 3), round(blue, 3)


def draw_objects(frame: Frame, objects: Iterable[ObjectPrediction], *, largest: int = 800) -> Image.Image:
    """Draw the meshes of the objects on a frame, each in its color and with its score where there is one."""
    picture = _fit(frame.image, largest)
    factor = picture.width / frame.image.width
    image = from_pillow(picture)
    labels = dict[tuple[int, int], str]()
    for thing in objects:
        if thing.prediction is None:
            continue
        mesh = thing.prediction.mesh
        camera = crop_camera(thing.prediction.camera, Crop(torch.tensor(factor), torch.zeros(2)))
        window = _window(project(mesh.vertices, camera), image)
        if window is not None:
            left, top, right, bottom = window
            if thing.prediction.score is not None:
                labels[left, top] = f"{thing.prediction.score:.2f}"
            moved = crop_camera(camera, Crop(torch.tensor(1.0), -torch.tensor([left, top], dtype=torch.float32)))
            part = image[:, top:bottom, left:right]
            color = object_color(thing.identity)
            image[:, top:bottom, left:right] = overlay_mesh(part, mesh, moved, color=color)
    drawn = to_pillow(image)
    pen = ImageDraw.Draw(drawn)
    for place, label in labels.items():
        pen.text(place, label, fill="white", stroke_width=1, stroke_fill="black")
    return drawn


def side_by_side(frame: Frame, drawn: Image.Image) -> Image.Image:
    """Put a frame to the left of what was drawn on it."""
    width, height = drawn.width - drawn.width % 2, drawn.height - drawn.height % 2
    sheet = Image.new("RGB", (2 * width, height))
    sheet.paste(frame.image.resize(drawn.size), (0, 0))
    sheet.paste(drawn, (width, 0))
    return sheet


def _fit(image: Image.Image, largest: int) -> Image.Image:
    picture = image.copy()
    picture.thumbnail((largest, largest))
    return picture


def _window(points: Tensor, image: Tensor) -> tuple[int, int, int, int] | None:
    """Return the part of a picture that a mesh covers: drawing elsewhere would cost as much and show nothing."""
    height, width = image.shape[-2:]
    low, high = points.amin(0).floor() - 2, points.amax(0).ceil() + 2
    left, top = (int(number) for number in low.clamp(min=0).clamp(max=torch.tensor([width, height])))
    right, bottom = (int(number) for number in high.clamp(min=0).clamp(max=torch.tensor([width, height])))
    return (left, top, right, bottom) if right > left and bottom > top else None

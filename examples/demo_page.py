"""The page that `demo.py` leaves: scores, and what both heads make of held-out birds, pictures included."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from kpose.geometry.camera import box_to_crop, normalized_to_pixels, project, uncrop_camera
from kpose.geometry.rotation import axis_angle_to_matrix, geodesic_distance
from kpose.heads import KeypointPrediction
from kpose.rendering import vertex_visibility
from kpose.structures import Camera, Mesh, PosePrediction
from kpose.templates import bird
from kpose.visualization import draw_keypoints, heatmap_image, overlay_mesh, shaded_mesh, to_pillow

SIZE = 192  # side of a picture on the page, in pixels
# Turns of the predicted pose about the picture's right and down axes, in degrees: none, from the right, from above.
SIDES = ((0.0, 0.0), (0.0, 90.0), (90.0, 0.0))


@dataclass(frozen=True)
class HeadResult:
    """How a head did."""

    angle_deg: float
    median_deg: float
    iou: float
    prediction: PosePrediction
    """Predictions on the birds of the page."""


def page(
    photos: Sequence[Tensor],
    camera: Camera,
    results: Mapping[str, HeadResult],
    cameras: Mapping[str, float],
    data: Mapping[str, int],
    epochs: int,
) -> str:
    """Write the page.

    Args:
        photos: Held-out birds.
        camera: Their true cameras.
        results: What each head scored, and predicted on them.
        cameras: How far the cameras that training found are from the true ones.
        data: Numbers of pictures and their size, as the data module takes them.
        epochs: How often each training picture was seen.

    Returns:
        HTML that needs no other file.
    """
    rows = "".join(
        f"<tr><td>{head}</td><td>{result.angle_deg:.1f}°</td><td>{result.median_deg:.1f}°</td>"
        f"<td>{result.iou:.3f}</td></tr>"
        for head, result in results.items()
    )
    birds = "".join(_bird(photo, camera.rotation[row], results, row) for row, photo in enumerate(photos))
    (count,) = (int(name.split("_")[2]) for name in cameras if name.startswith("best_of_"))
    found = {"best": cameras["best_deg"], "best_of_all": cameras[f"best_of_{count}_deg"], "cameras": count}
    return _PAGE.format(rows=rows, birds=birds, epochs=epochs, **found, **data)


def picture_strip(photo: Tensor, prediction: PosePrediction, row: int) -> dict[str, Tensor]:
    """Draw what a head makes of one bird.

    Args:
        photo: The bird, in any number of pixels.
        prediction: Predictions for a batch.
        row: Which of the batch.

    Returns:
        Pictures of equal size by caption, the photo first.
    """
    large = interpolate(photo[None], size=(SIZE, SIZE), mode="bicubic", align_corners=False, antialias=True)[0]
    large = large.clamp(0, 1)
    pictures = {"photo": large}
    if isinstance(prediction, KeypointPrediction):
        heat = 0.35 * large + 0.65 * heatmap_image(prediction.heatmaps[row], SIZE)
        points = normalized_to_pixels(prediction.keypoints[row], (SIZE, SIZE))
        pictures["heatmaps"] = draw_keypoints(
            heat, points, prediction.confidence[row], inliers=prediction.inliers[row]
        )
    template = bird()
    camera = Camera(*(part[row] for part in prediction.camera))
    in_pixels = uncrop_camera(camera, box_to_crop(large.new_tensor([0.0, 0.0, SIZE, SIZE])))
    pictures["overlay"] = overlay_mesh(large, Mesh(template.vertices, template.faces), in_pixels)
    mesh = painted_mesh(photo, camera)
    for name, turn in zip(("as seen", "from the right", "from above"), SIDES, strict=True):
        pictures[name] = _turned(mesh, camera, turn)
    return pictures


def painted_mesh(photo: Tensor, camera: Camera) -> Mesh:
    """Colour the template by the photo: a vertex that is not seen takes the colour of its mirror partner.

    Args:
        photo: The bird.
        camera: Its camera, in normalised coordinates.

    Returns:
        Template with vertex colours; what neither side shows has the mean colour.
    """
    template = bird()
    grid = project(template.vertices, camera)[None, None]
    colors = grid_sample(photo[None], grid, padding_mode="border", align_corners=False)[0, :, 0].mT
    seen = vertex_visibility(Mesh(template.vertices, template.faces), camera)
    mean = colors[seen].mean(0) if seen.any() else colors.mean(0)
    other = torch.where(seen[template.mirror][:, None], colors[template.mirror], mean)
    return Mesh(template.vertices, template.faces, vertex_colors=torch.where(seen[:, None], colors, other))


def _turned(mesh: Mesh, camera: Camera, turn: tuple[float, float]) -> Tensor:
    """Draw a mesh in the predicted pose, turned about its middle."""
    axes = (torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
    rotation = camera.rotation
    for axis, degrees in zip(axes, turn, strict=True):
        rotation = axis_angle_to_matrix(axis * torch.tensor(degrees).deg2rad()) @ rotation
    middle = (mesh.vertices.amin(0) + mesh.vertices.amax(0)) / 2
    scale = 0.95 / (mesh.vertices - middle).norm(dim=-1).max()
    rgb, mask = shaded_mesh(mesh, Camera(scale, -scale * (rotation @ middle)[:2], rotation), SIZE)
    return torch.lerp(torch.ones_like(rgb), rgb, mask)


def _bird(photo: Tensor, rotation: Tensor, results: Mapping[str, HeadResult], row: int) -> str:
    """Write the section of one bird: the photo, then a line of pictures for each head."""
    lines = ""
    for head, result in results.items():
        error = geodesic_distance(result.prediction.camera.rotation[row], rotation).rad2deg()
        strip = picture_strip(photo, result.prediction, row)
        first = strip.pop("photo")
        lines += f"<h3>{head}: {float(error):.1f}° off</h3><div>"
        lines += "" if "heatmaps" in strip else "<figure class=blank></figure>"
        lines += "".join(_figure(picture, caption) for caption, picture in strip.items()) + "</div>"
    return f"<section>{_figure(first, 'photo')}<div class=heads>{lines}</div></section>\n"


def _figure(picture: Tensor, caption: str) -> str:
    buffer = io.BytesIO()
    to_pillow(picture).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    picture_tag = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{picture_tag}<figcaption>{caption}</figcaption></figure>"


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>kpose demo</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1320px; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ padding: .3rem 1.2rem .3rem 0; text-align: left; border-bottom: 1px solid #ddd; }}
section {{ display: flex; gap: 1rem; border-top: 1px solid #ddd; padding: 1rem 0; }}
section > figure {{ padding-top: 2rem; }}
.heads {{ display: block; }}
h3 {{ font-size: 1rem; margin: 0 0 .2rem .2rem; font-weight: 600; }}
figure {{ display: inline-block; margin: 0 .2rem .4rem; }}
img {{ display: block; width: 192px; max-width: 30vw; border-radius: 4px; background: #f4f4f4; }}
.blank {{ width: 192px; max-width: 30vw; }}
figcaption {{ font-size: .8rem; color: #666; text-align: center; }}
</style>
<h1>One photo in, one camera out, learned without pose labels</h1>
<p>Two pose heads, trained on {num_train} rendered birds of {image_size} × {image_size} pixels and their masks, with
the template for a mean shape. Nobody told their cameras: {cameras} were fitted to each silhouette, and one of them
chosen by what birds look like. Those chosen are {best:.1f}° from the truth on average, the nearest of the {cameras}
{best_of_all:.1f}°. Both heads then saw the birds {epochs} times, with the same backbone from scratch, optimizer and
schedule. Scored on {num_test} other birds: angle between predicted and true rotation, and overlap of the template's
silhouette with the bird's.</p>
<table>
<tr><th>head</th><th>mean error</th><th>median error</th><th>IoU</th></tr>
{rows}
</table>
<p>Below: held-out birds. The mesh is the template in the predicted pose, coloured by the photo: as seen by the
camera, from the right and from above. Where the pose is wrong, the colours fall on the wrong places.</p>
{birds}</html>
"""

"""The page of `demo.py`: scores, and both heads' predictions for held-out birds, with pictures."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from kpose.geometry import geodesic_distance
from kpose.inference import Prediction
from kpose.inference.sheet import sheet_row
from kpose.visualization import to_pillow

SIZE = 192  # side of a picture on the page, in pixels


@dataclass(frozen=True)
class HeadResult:
    """Scores and predictions of a head."""

    angle_deg: float
    median_deg: float
    iou: float
    predictions: Sequence[Prediction]
    """What it makes of the birds of the page."""


def page(
    rotations: Sequence[Tensor],
    results: Mapping[str, HeadResult],
    cameras: Mapping[str, float],
    data: Mapping[str, int],
    epochs: int,
) -> str:
    """Write the page.

    Args:
        rotations: True rotations of held-out birds.
        results: Scores and predictions of each head.
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
    birds = "".join(_bird(rotation, results, row) for row, rotation in enumerate(rotations))
    (count,) = (int(name.split("_")[2]) for name in cameras if name.startswith("best_of_"))
    found = {"best": cameras["best_deg"], "best_of_all": cameras[f"best_of_{count}_deg"], "cameras": count}
    return _PAGE.format(rows=rows, birds=birds, epochs=epochs, **found, **data)


def _bird(rotation: Tensor, results: Mapping[str, HeadResult], row: int) -> str:
    """Write the section of one bird: the photo, then a line of pictures for each head."""
    lines = ""
    for head, result in results.items():
        found = result.predictions[row]
        error = geodesic_distance(found.camera.rotation, rotation).rad2deg()
        strip = sheet_row(found, SIZE)
        first = strip.pop("photo")
        lines += f"<h3>{head}: {float(error):.1f}° off</h3><div>"
        lines += "" if "keypoints" in strip else "<figure class=blank></figure>"
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
the template for a mean shape. Training does not know their cameras: {cameras} were fitted to each silhouette, and
one of them chosen by appearance. Those chosen are {best:.1f}° from the true ones on average, the nearest of the
{cameras} {best_of_all:.1f}°. Both heads then saw the birds {epochs} times, with the same backbone from scratch,
optimizer and schedule. Scored on {num_test} other birds: angle between predicted and true rotation, and overlap of
the template's silhouette with the bird's.</p>
<table>
<tr><th>head</th><th>mean error</th><th>median error</th><th>IoU</th></tr>
{rows}
</table>
<p>Below: held-out birds. The mesh is the template in the predicted pose, colored by the photo: as seen by the
camera, from the right and from above. Where the pose is wrong, the colors fall on the wrong places.</p>
{birds}</html>
"""

"""The page that a pipeline leaves: its figures, and what cameras and heads look like."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from kpose._files import write_text
from kpose.network import PoseNetwork
from kpose.pipeline.folder import TrainingCameras
from kpose.reconstruction import CameraTable
from kpose.structures import Batch, Camera, Mesh, Template
from kpose.tasks import ShapeTraining
from kpose.visualization import image_grid, overlay_mesh, to_pillow

__all__ = ["write_report"]

_PICTURES = 8
_MAX_PROBLEMS = 100
_SHEETS = {
    "shapes.png": "Stage 2: photo, mask, rendering under the best camera, and the shape from three sides",
    "azimuths.png": "Stage 2: azimuths of the best cameras",
}
_STYLE = (
    "body{font-family:system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.3rem .8rem;border-bottom:1px solid #ccc;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{width:44rem;max-width:100%}"
)
_COLUMNS = {
    "angle_deg": "mean error, deg",
    "angle_deg_median": "median, deg",
    "angle_acc30": "within 30°",
    "iou": "IoU",
    "iou_soft": "soft IoU",
    "pck_transfer": "keypoint transfer",
    "azimuth_ws_deg": "azimuth WS, deg",
    "elevation_ws_deg": "elevation WS, deg",
}


def write_report(
    out: Path,
    metrics: Mapping[str, Any],
    data: Any,  # noqa: ANN401 - any data module with a method `dataset`
    cameras: TrainingCameras,
    template: Template,
    networks: Mapping[str, PoseNetwork],
) -> None:
    """Write ``report.html``, which needs no other file.

    Training images are drawn with the shapes of stage 2, if it was run, whose sheets lie beside the cameras, else
    with the template; held-out images with what the networks predict.
    """
    mesh = Mesh(template.vertices, template.faces)
    parts = [f"<h1>kpose pipeline</h1>{_tables(metrics)}"]
    if cameras.shapes is not None:
        parts.append(_stage_2(cameras.file.parent))
    table = CameraTable.for_images(data.dataset("train"), file=cameras.file)
    training = _training(data, table, mesh, cameras.shapes)
    parts.append(f"<h2>Training images under their chosen cameras</h2>{training}")
    held_out = data.dataset(getattr(data, "test_split", "test"))
    for name, network in networks.items():
        parts.append(f"<h2>Held-out images: {html.escape(name)}</h2>" + _held_out(held_out, network))
    parts.append(_left_out(getattr(data.dataset("train"), "problems", ())))
    page = f"<!doctype html><meta charset=utf-8><title>kpose pipeline</title><style>{_STYLE}</style>" + "".join(
        parts
    )
    write_text(out / "report.html", page)


def _tables(metrics: Mapping[str, Any]) -> str:
    rows = []
    for stage in ("searched_cameras", "chosen_cameras", "reranked_cameras", "cameras"):
        for key, value in (metrics.get(stage) or {}).items():
            rows.append(f"<tr><td>{stage.replace('_', ' ')}, {key}</td><td>{value:.1f}</td></tr>")
    cameras = f"<h2>Cameras of the training images</h2><table>{''.join(rows)}</table>" if rows else ""
    heads = metrics["heads"]
    names = [key for key in _COLUMNS if any(key in scores for scores in heads.values())]
    header = "".join(f"<th>{_COLUMNS[key]}</th>" for key in names)
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td>{scores[key]:.3g}</td>" if key in scores else "<td></td>" for key in names)
        + "</tr>"
        for name, scores in heads.items()
    )
    return f"{cameras}<h2>Heads on held-out images</h2><table><tr><th>head</th>{header}</tr>{body}</table>"


def _stage_2(folder: Path) -> str:
    """Show the last sheets of stage 2."""
    found = [(title, folder / name) for name, title in _SHEETS.items() if (folder / name).is_file()]
    return "".join(f"<h2>{title}</h2>{_image(path.read_bytes())}" for title, path in found)


def _left_out(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in problems[:_MAX_PROBLEMS])
    more = len(problems) - _MAX_PROBLEMS
    rest = f"<p>And {more} more.</p>" if more > 0 else ""
    return f"<h2>Images that are left out</h2><p>{len(problems)} in all.</p><ul>{lines}</ul>{rest}"


def _training(data: Any, table: CameraTable, mesh: Mesh, shapes: ShapeTraining | None) -> str:  # noqa: ANN401
    pictures = []
    for item in _spread(data.dataset("train")):
        if shapes is not None:
            with torch.no_grad():
                mesh = Mesh(shapes(item["image"][None]).vertices[0], mesh.faces)
        batch = Batch(**{name: item[name][None] for name in ("index",)}, crop=_lifted(item["crop"]))  # type: ignore[typeddict-item]
        pictures.append(_overlay(item["image"], mesh, table.labels(batch).at(0)))
    return _sheet(pictures)


def _held_out(images: Dataset[Batch], network: PoseNetwork) -> str:
    items = _spread(images)
    with torch.no_grad():
        features = network.backbone(torch.stack([item["image"] for item in items]))
        vertices = network.shapes(features)
        camera = network.pose(features, vertices).camera
    pictures = []
    for row, item in enumerate(items):
        mesh = Mesh(vertices[row], network.faces)
        pictures.append(_overlay(item["image"], mesh, camera.at(row)))
    return _sheet(pictures)


def _spread(images: Any) -> list[Batch]:  # noqa: ANN401
    """Take a few images from all over a data set."""
    count = min(_PICTURES, len(images))
    return [images[(2 * n + 1) * len(images) // (2 * count)] for n in range(count)]


def _lifted(parts: Any) -> Any:  # noqa: ANN401
    return type(parts)(*(part[None] for part in parts))


def _overlay(image: Tensor, mesh: Mesh, camera: Camera) -> Tensor:
    half = image.shape[-1] / 2
    pixels = Camera(camera.scale * half, (camera.translation + 1) * half, camera.rotation)
    return overlay_mesh(image, mesh, pixels, opacity=0.6)


def _sheet(pictures: Sequence[Tensor]) -> str:
    file = io.BytesIO()
    to_pillow(image_grid(pictures, columns=4)).save(file, "png")
    return _image(file.getvalue())


def _image(png: bytes) -> str:
    return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="pictures">'

"""The pages of ``kpose predict``: all pictures to choose from, and each mesh to turn, without a network.

Pages on the disk may not read other files, so the page of a mesh holds it and its viewer, three.js as trimesh packs
it (MIT license).
"""

import html
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np
import trimesh
from kornia.color import linear_rgb_to_rgb
from trimesh.transformations import rotation_matrix
from trimesh.viewer.notebook import scene_to_html

from kpose._files import write_text
from kpose.cli.results import read_record
from kpose.inference import to_trimesh
from kpose.structures import Mesh

__all__ = ["mesh_page", "write_page"]

# From the object's left side, somewhat from the front and above.
VIEW_DEG = (-17.0, 62.0, 0.0)
FIELD_DEG = 30.0
LIGHT = 1.75


def mesh_page(mesh: Mesh) -> str:
    """Return a page on which a mesh is turned by the mouse."""
    # The viewer decodes textures to linear values and shows these as they are, under a light of 1.75.
    if mesh.texture is not None:
        mesh = mesh._replace(texture=linear_rgb_to_rgb(mesh.texture / LIGHT))
    elif mesh.vertex_colors is not None:
        mesh = mesh._replace(vertex_colors=mesh.vertex_colors / LIGHT)
    solid = to_trimesh(mesh)
    solid.apply_transform(rotation_matrix(-np.pi / 2, [1, 0, 0]))  # the viewer has +y up
    scene = trimesh.Scene(solid)
    distance = scene.scale / 2 / np.sin(np.radians(FIELD_DEG / 2))  # at which the whole of it is seen
    scene.set_camera(np.radians(VIEW_DEG), distance, scene.centroid, fov=(FIELD_DEG, FIELD_DEG))
    page: str = scene_to_html(scene)
    return page


def write_page(folder: Path, failures: Mapping[Path, str]) -> Path:
    """Write ``index.html``, which shows all results of a folder."""
    records = [(path.stem, read_record(path)) for path in sorted(folder.glob("*.json"))]
    cards = [_card(name, record) for name, record in records if record and _is_whole(folder, name)]
    template = Template((files("kpose.cli") / "index.html").read_text(encoding="utf-8"))
    page = folder / "index.html"
    write_text(page, template.substitute(cards="\n".join(cards), failures=_list(failures), count=len(cards)))
    return page


def _is_whole(folder: Path, name: str) -> bool:
    return all((folder / path).exists() for path in (f"{name}_overlay.png", f"viewer/{name}.html"))


def _card(name: str, record: Mapping[str, Any]) -> str:
    text, link = html.escape(name), quote(name)
    notes = "" if record.get("valid", True) else "<em>too few keypoints agreed</em>"
    if record.get("box") is None:
        notes += " <em>whole frame</em>"
    return (
        f'<figure><button type="button" data-mesh="viewer/{link}.html" data-name="{text}">'
        f'<img src="{link}_overlay.png" alt="{text}" loading="lazy"></button>'
        f'<figcaption>{text} <a href="{link}.glb">glb</a> <a href="{link}.json">json</a> {notes}'
        "</figcaption></figure>"
    )


def _list(failures: Mapping[Path, str]) -> str:
    rows = "".join(
        f"<li><b>{html.escape(str(path))}</b>: {html.escape(line)}</li>" for path, line in failures.items()
    )
    return f"<h2>Could not be used</h2><ul>{rows}</ul>" if rows else ""

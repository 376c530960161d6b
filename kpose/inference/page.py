"""The page beside the results of ``kpose predict``: pictures to choose from, and a mesh to turn, without a network.

Pages on the disk may not read other files, but may run scripts beside them: each mesh is in a script of its own,
which is loaded when it is asked for. three.js comes from the copy that trimesh carries for notebooks (MIT licence,
which the copy names at its head).
"""

import html
import io
import zipfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from trimesh import resources

from kpose.files import write_text
from kpose.inference.results import SCRIPT_MARK, PhotoResult, made_by_kpose, read_record

__all__ = ["write_page"]

# Where trimesh's own page begins, after three.js, its loader of GLB files and its controls.
TRIMESH_PAGE = "var camera,controls,scene,renderer"


def write_page(folder: Path, failures: Sequence[tuple[Path, str]], *, overwrite: bool = False) -> Path:
    """Write ``index.html``, which shows all results of a folder, and the scripts that it needs.

    Args:
        folder: Folder with results; others are left out.
        failures: Photos that could not be used, and why.
        overwrite: Replace files that kpose did not make.

    Returns:
        The page.

    Raises:
        FileExistsError: If there is a file of that name that kpose did not make.
        RuntimeError: If the installed trimesh has no viewer.
    """
    page, library, viewer = folder / "index.html", folder / "viewer" / "three.js", folder / "viewer" / "viewer.js"
    for path in (page, library, viewer):
        if path.exists() and not overwrite and not made_by_kpose(path):
            raise FileExistsError(f"The page {path} exists. Choose another --out, or give --overwrite.")
    parts = files("kpose.inference") / "page_parts"
    write_text(library, SCRIPT_MARK + _three())
    write_text(viewer, SCRIPT_MARK + (parts / "viewer.js").read_text(encoding="utf-8"))
    cards = [_card(result, record) for result, record in _results(folder)]
    template = Template((parts / "index.html").read_text(encoding="utf-8"))
    write_text(page, template.substitute(cards="\n".join(cards), failures=_failures(failures), count=len(cards)))
    return page


def _results(folder: Path) -> list[tuple[PhotoResult, dict[str, Any]]]:
    """List what is whole in a folder, in the order of its names."""
    found = [(PhotoResult(folder, path.stem), read_record(path)) for path in sorted(folder.glob("*.json"))]
    return [
        (result, record)
        for result, record in found
        if record is not None and result.overlay.exists() and result.script.exists()
    ]


def _card(result: PhotoResult, record: dict[str, Any]) -> str:
    name, link = html.escape(result.name), quote(result.name)
    notes = "" if record.get("valid", True) else "<em>too few keypoints agreed</em>"
    if record.get("box") is None:
        notes += " <em>whole frame</em>"
    return (
        f'<figure><button type="button" data-mesh="viewer/{link}.js" data-name="{name}">'
        f'<img src="{link}_overlay.png" alt="{name}" loading="lazy"></button>'
        f'<figcaption>{name} <a href="{link}.glb">glb</a> <a href="{link}.json">json</a> {notes}'
        "</figcaption></figure>"
    )


def _failures(failures: Sequence[tuple[Path, str]]) -> str:
    if not failures:
        return ""
    rows = "".join(f"<li><b>{html.escape(str(path))}</b>: {html.escape(line)}</li>" for path, line in failures)
    return f"<h2>Could not be used</h2><ul>{rows}</ul>"


def _three() -> str:
    """Take three.js with its loader and controls out of trimesh's viewer."""
    archive = io.BytesIO(resources.get_bytes("templates/viewer.zip"))
    with zipfile.ZipFile(archive) as viewer:
        page = viewer.read("viewer.html.template").decode("utf-8")
    script = page.partition("<script>")[2].partition(TRIMESH_PAGE)[0]
    if "THREE.GLTFLoader=" not in script or "THREE.TrackballControls=" not in script:
        raise RuntimeError(
            "The page needs the viewer of trimesh; the installed version has another. Install 5.2.0."
        )
    return script

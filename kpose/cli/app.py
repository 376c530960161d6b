"""``kpose app``: a page to drop a photo on, which shows the mesh to turn and the overlay."""

import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kpose._files import existing
from kpose._messages import one_line
from kpose.cli.interruption import let_finish
from kpose.cli.networks import Networks
from kpose.cli.parser import run

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from kpose.inference import Predictor

__all__ = ["build_app", "main"]

DISTANCE = 3.2  # of the viewer's eye, in radii of the mesh


def main(args: Sequence[str]) -> int:
    """Run the command."""
    return run(app, args)


def app(networks: Networks, host: str = "127.0.0.1", port: int = 7860) -> int:
    """Serve a page in the browser: drop a photo, turn the mesh.

    Photos stay on this computer.

    Args:
        networks: what predicts, and what finds the object
        host: address to listen on (default: this computer only)
        port: port to listen on (default: 7860)
    """
    existing(networks.source, "kpose app", "Correct the path.")
    _import_gradio()
    let_finish()
    with tempfile.TemporaryDirectory(prefix="kpose") as folder:
        page = build_app(networks.load_predictor(find=True), Path(folder))
        _, address, _ = page.launch(
            server_name=host, server_port=port, share=False, quiet=True, prevent_thread_lock=True
        )
        sys.stderr.write(f"Open {address} in a browser; Ctrl-C ends.\n")
        sys.stderr.flush()
        try:
            threading.Event().wait()  # Gradio's own waiting swallows Ctrl-C
        finally:
            page.close(verbose=False)
    return 0


def build_app(predictor: "Predictor", folder: Path) -> Any:  # noqa: ANN401 - Gradio need not be installed
    """Build the page."""
    from kpose.visualization import to_pillow

    gradio = _import_gradio()

    def show(photo: str | None) -> "tuple[Any, Image.Image | None, str]":
        if photo is None:
            return None, None, ""
        try:
            [found] = predictor(photo)
            [path] = found.save(folder / f"{uuid4().hex}.glb")
            mesh = gradio.Model3D(str(path), camera_position=_viewpoint(found.mesh.vertices))
            return mesh, to_pillow(found.overlay()), _remark(found.valid, found.box is None)
        except (OSError, ValueError, RuntimeError) as error:
            raise gradio.Error(one_line(error)) from error

    with gradio.Blocks(title="kpose", analytics_enabled=False, fill_width=True) as page:
        gradio.Markdown("## kpose\nDrop a photo, and turn what it shows.")
        with gradio.Row():
            with gradio.Column():
                photo = gradio.Image(label="Photo", type="filepath", image_mode=None, height=310)
                overlay = gradio.Image(label="Mesh on the photo", interactive=False, height=310)
            with gradio.Column(scale=2):
                mesh = gradio.Model3D(label="Mesh", clear_color=(0.95, 0.96, 0.97, 1.0), height=636)
        remark = gradio.Markdown()
        photo.change(show, inputs=photo, outputs=[mesh, overlay, remark])
    return page


def _viewpoint(vertices: "Tensor") -> tuple[float, float, float]:
    """Look at the whole mesh from its left, somewhat from the front and above, in Gradio's degrees and units."""
    low, high = vertices.amin(0), vertices.amax(0)
    return 30.0, 75.0, DISTANCE * float((high - low).norm()) / 2


def _import_gradio() -> Any:  # noqa: ANN401 - it need not be installed
    try:
        import gradio
    except ImportError as error:
        raise ImportError(
            f"kpose app needs Gradio; it cannot be imported ({error}). Install it: pip install 'kpose[app]'"
        ) from error
    return gradio


def _remark(valid: bool, whole_frame: bool) -> str:
    remarks = []
    if not valid:
        remarks.append("Too few keypoints agreed on a camera: do not trust this one.")
    if whole_frame:
        remarks.append("The whole frame was taken; crop the photo to the object for a better result.")
    return " ".join(remarks)

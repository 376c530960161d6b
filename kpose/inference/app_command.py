"""``kpose app``: a page to drop a photo on, which shows the mesh to turn and the overlay."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL import Image
from torch import Tensor

from kpose.inference.options import (
    add_predictor_options,
    check_predictor_options,
    load_predictor,
    load_segmenter,
)
from kpose.inference.predictor import Predictor
from kpose.messages import one_line
from kpose.visualization import to_pillow

__all__ = ["build_app", "main"]

DISTANCE = 3.2  # of the viewer's eye, in radii of the mesh


def main(args: Sequence[str] | None = None) -> int:
    """Serve the page until it is interrupted.

    Args:
        args: Arguments after ``kpose app``; those of the process when None.

    Returns:
        0, or 1 if Gradio is not installed, the checkpoint cannot be used or the port is taken; one line says why.

    Raises:
        SystemExit: If the arguments are wrong (code 2), or ask for help.
    """
    parser = _parser()
    options = parser.parse_args(args)
    check_predictor_options(parser, options)
    try:
        _gradio()
        with tempfile.TemporaryDirectory(prefix="kpose") as folder:
            predictor = load_predictor(options, load_segmenter(options))
            app = build_app(predictor, Path(folder))
            _, address, _ = app.launch(
                server_name=options.host,
                server_port=options.port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
            )
            sys.stderr.write(f"Open {address} in a browser; Ctrl-C ends.\n")
            sys.stderr.flush()
            app.block_thread()
    except (ImportError, OSError, ValueError, RuntimeError, AssertionError) as error:  # the last: no CUDA
        sys.stderr.write(f"{one_line(error)}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kpose app",
        description="Serve a page in the browser: drop a photo, turn the mesh. Photos stay on this computer.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this computer only)")
    parser.add_argument("--port", default=7860, type=int, help="port to listen on (default: 7860)")
    add_predictor_options(parser)
    return parser


def build_app(predictor: Predictor, folder: Path) -> Any:  # noqa: ANN401 - Gradio need not be installed
    """Build the page.

    Args:
        predictor: Predicts what the photos show.
        folder: Where the meshes are written that the page shows.

    Returns:
        Gradio's ``Blocks``, to be launched.

    Raises:
        ImportError: If Gradio is not installed.
    """
    gradio = _gradio()

    def show(photo: Image.Image | None) -> tuple[Any, Image.Image | None, str]:
        if photo is None:
            return None, None, ""
        try:
            [found] = predictor(photo)
            [path] = found.save(folder / f"{uuid4().hex}.glb")
            mesh = gradio.Model3D(str(path), camera_position=_viewpoint(found.mesh.vertices))
            return mesh, to_pillow(found.overlay()), _remark(found.valid, found.box is None)
        except (OSError, ValueError, RuntimeError) as error:
            raise gradio.Error(one_line(error)) from error

    with gradio.Blocks(title="kpose", analytics_enabled=False, fill_width=True) as app:
        gradio.Markdown("## kpose\nDrop a photo, and turn what it shows.")
        with gradio.Row():
            with gradio.Column():
                photo = gradio.Image(label="Photo", type="pil", image_mode="RGB", height=310)
                overlay = gradio.Image(label="Mesh on the photo", interactive=False, height=310)
            with gradio.Column(scale=2):
                mesh = gradio.Model3D(label="Mesh", clear_color=(0.95, 0.96, 0.97, 1.0), height=636)
        remark = gradio.Markdown()
        photo.change(show, inputs=photo, outputs=[mesh, overlay, remark])
    return app


def _viewpoint(vertices: Tensor) -> tuple[float, float, float]:
    """Look at the whole mesh from its left, somewhat from the front and above, in Gradio's degrees and units."""
    low, high = vertices.amin(0), vertices.amax(0)
    return 30.0, 75.0, DISTANCE * float((high - low).norm()) / 2


def _gradio() -> Any:  # noqa: ANN401 - it need not be installed
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

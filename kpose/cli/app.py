"""``kpose app``: a page to drop a photo on, which shows the mesh to turn and the overlay."""

import os
import socket
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
from kpose.cli.networks import Networks, learned_from
from kpose.cli.parser import ArgumentError, run

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from kpose.inference import Prediction, Predictor

__all__ = ["build_app", "main"]

DISTANCE = 3.2  # of the viewer's eye, in radii of the mesh
KEPT_S = (600, 3600)  # how often files are looked through, and how old they get
MAX_PORT = 65535


def main(args: Sequence[str]) -> int:
    """Run the command."""
    return run(app, args)


def app(networks: Networks, host: str = "127.0.0.1", port: int = 7860) -> int:
    """Serve a page in the browser: drop a photo, turn the mesh.

    Photos stay on this computer. What the page makes of them is deleted after an hour, and at the end.

    Args:
        networks: what predicts, and what finds the object
        host: address to listen on (default: this computer only)
        port: port to listen on (default: 7860)
    """
    existing(networks.source, "kpose app", "Correct the path.")
    _check_address(host, port)
    predictor = networks.load_predictor(find=True)
    with tempfile.TemporaryDirectory(prefix="kpose") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # which Gradio reads when it is imported
        page = build_app(predictor, Path(folder))
        let_finish()
        _, address, _ = page.launch(
            server_name=host, server_port=port, share=False, quiet=True, prevent_thread_lock=True
        )
        sys.stderr.write(f"Open {address} in a browser; Ctrl-C ends.{learned_from(predictor)}\n")
        sys.stderr.flush()
        try:
            threading.Event().wait()  # Gradio's own waiting swallows Ctrl-C
        finally:
            page.close(verbose=False)
    return 0


def build_app(predictor: "Predictor", folder: Path) -> Any:  # noqa: ANN401 - Gradio need not be installed
    """Build the page, which keeps its files in a folder."""
    from kpose.visualization import to_pillow

    gradio = _import_gradio()

    def show(photo: str | None, box: str = "", mask: str | None = None) -> "tuple[Any, Image.Image | None, str]":
        if photo is None:
            return None, None, ""
        try:
            [found] = predictor(photo, box=_box(box), mask=mask)
            [path] = found.save(folder / f"{uuid4().hex}.glb")
            mesh = gradio.Model3D(str(path), camera_position=_viewpoint(found.mesh.vertices))
            return mesh, to_pillow(found.overlay()), _remark(found)
        except (OSError, ValueError, RuntimeError) as error:
            raise gradio.Error(one_line(error), print_exception=False) from error

    def show_new(photo: str | None) -> tuple[Any, ...]:
        return "", None, *show(photo)

    def show_corner(photo: str, box: str, mask: str | None, click: gradio.SelectData) -> tuple[Any, ...]:  # type: ignore[name-defined]
        box = _with_corner(box, *click.index)
        return (box, *([gradio.skip()] * 3 if len(box.split()) < 4 else show(photo, box, mask)))

    with gradio.Blocks(title="kpose", analytics_enabled=False, fill_width=True, delete_cache=KEPT_S) as page:
        gradio.Markdown(f"## kpose\nDrop a photo, and turn what it shows.{learned_from(predictor)}")
        with gradio.Row():
            with gradio.Column():
                photo = gradio.Image(label="Photo", type="filepath", image_mode=None, height=310, buttons=[])
                box = gradio.Textbox(label="Box", placeholder="X0 Y0 X1 Y1, in pixels, or click two corners")
                with gradio.Accordion("Mask", open=False):
                    mask = gradio.Image(show_label=False, type="filepath", image_mode=None, height=200, buttons=[])
                overlay = gradio.Image(
                    label="Mesh on the photo", interactive=False, height=310, buttons=["download", "fullscreen"]
                )
            with gradio.Column(scale=2):
                mesh = gradio.Model3D(label="Mesh", clear_color=(0.95, 0.96, 0.97, 1.0), height=636)
                remark = gradio.Markdown()
        given, results = [photo, box, mask], [mesh, overlay, remark]
        photo.change(show_new, inputs=photo, outputs=[box, mask, *results])
        photo.select(show_corner, inputs=given, outputs=[box, *results])
        gradio.on([box.submit, mask.input], show, inputs=given, outputs=results)
    return page


def _check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on before anything is loaded."""
    if not 1 <= port <= MAX_PORT:
        raise ArgumentError(None, f"--port must be from 1 to {MAX_PORT}; got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), port), family=family).close()
    except OSError as error:
        advice = "Give another by --port, or an address of this computer by --host."
        raise OSError(f"kpose app cannot listen on {host}, port {port} ({one_line(error)}). {advice}") from error


def _box(text: str) -> list[float] | None:
    """Read a box as it is written on the page."""
    try:
        return [float(word) for word in text.replace(",", " ").split()] or None
    except ValueError:
        raise ValueError(f"A box needs four numbers X0 Y0 X1 Y1, in pixels; got {text!r}.") from None


def _with_corner(box: str, x: int, y: int) -> str:
    """Add a corner that was clicked to a box that has one; begin a new one otherwise."""
    corner = [int(word) for word in box.split() if word.isdecimal()]
    if len(corner) != 2:
        return f"{x} {y}"
    (left, right), (top, bottom) = sorted((corner[0], x)), sorted((corner[1], y))
    return f"{left} {top} {right} {bottom}"


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


def _remark(found: "Prediction") -> str:
    """Describe how the object was found, and what is wrong with its camera."""
    box = "" if found.box is None else " ".join(f"{edge:.0f}" for edge in found.box)
    located = {
        "frame": "Nothing was found: the whole frame was taken. Give a box or a mask, or crop the photo.",
        "box": f"In the box that was given, {box}.",
        "mask": f"In the box of the mask that was given, {box}.",
    }
    remark = located.get(found.located_by, f"Found by {found.located_by} in the box {box}.")
    if found.score is not None:
        remark = f"{remark} Score {found.score:.2f}: about {found.expected_error_deg:.0f}° off is to be expected."
    return remark if found.valid else f"{remark} The camera is not valid: do not trust it."

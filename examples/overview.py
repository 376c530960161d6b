"""Draw the picture of the README: held-out rendered birds and what the demo's keypoint head makes of them.

make demo
python examples/overview.py --demo demo --out docs/images/overview.png
"""

import argparse
import secrets
from pathlib import Path

import torch

from kpose.tasks import PoseEstimator
from kpose.visualization import image_grid, to_pillow

from demo import held_out_birds
from demo_page import picture_strip

PHOTO_SIZE = 256  # the birds in more pixels than the network sees, to look at


def overview(demo: Path, out: Path, birds: list[int]) -> None:
    """Draw a row for each bird: photo, heatmaps, overlay, mesh from three sides.

    Args:
        demo: Folder that the demo has left.
        out: PNG file to write.
        birds: Numbers of the birds, among the test pictures.
    """
    task = PoseEstimator.load_from_checkpoint(demo / "keypoint.ckpt", map_location="cpu", weights_only=True).eval()
    seen, shown = held_out_birds(demo, PHOTO_SIZE)
    with torch.no_grad():
        prediction = task(torch.stack([seen[number]["image"] for number in birds]))
    pictures, captions = list[torch.Tensor](), list[str]()
    for row, number in enumerate(birds):
        strip = picture_strip(shown[number]["image"], prediction, row)
        pictures += strip.values()
        captions += strip if row == len(birds) - 1 else [""] * len(strip)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_name(f".{secrets.token_hex(4)}{out.suffix}")
    to_pillow(image_grid(pictures, captions, columns=len(pictures) // len(birds))).save(fresh, optimize=True)
    fresh.replace(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the picture of the README from the folder of the demo.")
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder that the demo has left")
    parser.add_argument("--out", type=Path, default=Path("docs/images/overview.png"), help="PNG file to write")
    parser.add_argument("--birds", type=int, nargs="+", default=[0, 1, 2, 3], help="numbers of the test pictures")
    options = parser.parse_args()
    overview(options.demo, options.out, options.birds)

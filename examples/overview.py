"""Draw the picture of the README: held-out rendered birds and what the demo's keypoint head makes of them.

make demo
python examples/overview.py --demo demo --out docs/images/overview.png
"""

import argparse
import secrets
from pathlib import Path

import torch
from torch.nn.functional import interpolate

from kpose.data import SyntheticBirdsDataModule
from kpose.tasks import PoseEstimator
from kpose.visualization import image_grid, to_pillow

from demo import FULL
from demo_page import SIZE, picture_strip

COLUMNS = ("heatmaps", "overlay", "as seen", "from the right", "from above")


def overview(demo: Path, out: Path, birds: int) -> None:
    """Draw a row for each bird: photo, heatmaps, overlay, mesh from three sides.

    Args:
        demo: Folder that the demo has left.
        out: PNG file to write.
        birds: Number of rows.
    """
    data = SyntheticBirdsDataModule(**FULL.data, cache_dir=demo / "cache")
    items = [data.datasets["test"][row] for row in range(birds)]
    task = PoseEstimator.load_from_checkpoint(demo / "keypoint.ckpt", map_location="cpu", weights_only=True).eval()
    images = torch.stack([item["image"] for item in items])
    with torch.no_grad():
        prediction = task(images)
    pictures = list[torch.Tensor]()
    for row, image in enumerate(images):
        large = interpolate(image[None], size=(SIZE, SIZE), mode="bicubic", align_corners=False)[0].clamp(0, 1)
        strip = picture_strip(image, prediction, row)
        pictures += [large, *(strip[name] for name in COLUMNS)]
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_name(f".{secrets.token_hex(4)}{out.suffix}")
    to_pillow(image_grid(pictures, columns=1 + len(COLUMNS))).save(fresh, optimize=True)
    fresh.replace(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the picture of the README from the folder of the demo.")
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder that the demo has left")
    parser.add_argument("--out", type=Path, default=Path("docs/images/overview.png"), help="PNG file to write")
    parser.add_argument("--birds", type=int, default=4, help="number of rows")
    options = parser.parse_args()
    overview(options.demo, options.out, options.birds)

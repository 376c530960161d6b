"""Draw the picture at the top of the README with the keypoint head that `demo.py` has trained.

python examples/overview.py --demo demo --out docs/images/overview.png
"""

import argparse
from pathlib import Path

import torch
from demo_page import SIZE, picture_strip
from torch.utils.data import default_collate

from kpose.data import SyntheticBirdsDataModule
from kpose.tasks import PoseEstimator
from kpose.visualization import image_grid, to_pillow

BIRDS = (0, 1, 2)  # rows of the picture, among the test birds


def overview(demo: Path, out: Path) -> None:
    """Draw one line of pictures for each of a few held-out birds.

    Args:
        demo: Folder that `demo.py` has written.
        out: PNG file.
    """
    size = torch.load(demo / "keypoint.ckpt", weights_only=True)["image_size"]
    task = PoseEstimator.load_from_checkpoint(demo / "keypoint.ckpt", map_location="cpu", weights_only=True).eval()
    data = SyntheticBirdsDataModule(image_size=size, cache_dir=demo / "cache")
    batch = default_collate([data.datasets["test"][number] for number in BIRDS])
    with torch.no_grad():
        prediction = task(batch["image"])
    pictures, captions = [], []
    for row, image in enumerate(batch["image"]):
        photo = torch.nn.functional.interpolate(image[None], size=(SIZE, SIZE), mode="bicubic", align_corners=False)
        strip = {"photo": photo[0].clamp(0, 1), **picture_strip(image, prediction, row)}
        pictures += strip.values()
        captions += [caption if row == len(BIRDS) - 1 else "" for caption in strip]
    out.parent.mkdir(parents=True, exist_ok=True)
    to_pillow(image_grid(pictures, captions, columns=len(pictures) // len(BIRDS))).save(out, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the picture at the top of the README.")
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder that demo.py has written")
    parser.add_argument("--out", type=Path, default=Path("docs/images/overview.png"), help="PNG file")
    options = parser.parse_args()
    overview(options.demo, options.out)

import math

import torch
from PIL import Image

from kpose.visualization import from_pillow, to_pillow


def test_pillow_round_trip() -> None:
    picture = Image.effect_noise((7, 5), 90).convert("RGB")
    assert to_pillow(from_pillow(picture)).tobytes() == picture.tobytes()
    assert to_pillow(torch.full((3, 2, 2), math.nan)).getpixel((0, 0)) == (0, 0, 0)
    assert to_pillow(torch.full((3, 2, 2), 7.0)).getpixel((0, 0)) == (255, 255, 255)

"""Sizes are refused before memory is taken, wherever one is given."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kpose._limits import MAX_SIDE, check_side
from kpose.data import SyntheticBirdsDataset
from kpose.data.photo_dataset import PhotoDataset
from kpose.inference import prediction_sheet
from kpose.reconstruction import SearchLevel
from kpose.structures import Mesh
from kpose.visualization import mesh_views, turntable

Photos = type("Photos", (PhotoDataset,), dict.fromkeys(("image_files", "load", "names")))
MESH = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]))
TAKES: dict[str, Callable[[int], object]] = {
    "SyntheticBirdsDataset": lambda size: SyntheticBirdsDataset(1, size),
    "PhotoDataset": lambda size: Photos(
        Path(), "train", splits=[], boxes=torch.empty(0, 4), stamp=repr, image_size=size
    ),
    "SearchLevel": SearchLevel,
    "mesh_views": lambda size: mesh_views(MESH, size),
    "turntable": lambda size: turntable(MESH, size),
    "prediction_sheet": lambda size: prediction_sheet([], size=size),
}


def test_both_ends_are_allowed() -> None:
    check_side(1, "it")
    check_side(MAX_SIDE, "it")


@pytest.mark.parametrize("name", TAKES)
@pytest.mark.parametrize("size", [0, -3, MAX_SIDE + 1, 10**9])
def test_a_side_out_of_range_is_one_line(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=rf"^\w+ needs \w+ from 1 to 4096 pixels; got {size}. Change it.$"):
        TAKES[name](size)

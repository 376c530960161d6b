import pickle
from pathlib import Path

import pytest
import torch
from pipeline.small import birds
from processes import in_two_processes, join

from kpose.backbones import TinyBackbone
from kpose.data import CachedFeaturesDataModule

IMAGES = 40  # two batches, which processes cannot share evenly


class Counting(TinyBackbone):
    """A backbone that counts the images that it has seen."""

    seen = 0

    def pyramid(self, image):
        type(self).seen += len(image)
        return super().pyramid(image)


def features(folder, name="features"):
    torch.manual_seed(0)
    data = birds(Path(folder, "birds"), num_train=IMAGES, num_val=4)
    backbone = Counting(width=8).freeze()
    module = CachedFeaturesDataModule(data, backbone, folder=Path(folder, name), views=2, picture_size=8)
    module.setup("fit")
    module.val_dataloader()
    return module.features("train", train=True).__getitems__([0, IMAGES + 20, IMAGES + IMAGES - 1])


def run_rank(number: int, folder: str) -> None:
    join(number, folder)
    maps = list(features(folder)["features"].maps)
    torch.save((Counting.seen, maps), Path(folder, f"{number}.pt"))


@pytest.mark.ddp
def test_processes_fill_a_cache_together(tmp_path):
    birds(tmp_path / "birds", num_train=IMAGES, num_val=4).dataset("train", train=True)
    in_two_processes(run_rank, tmp_path)
    (seen, first), (others, second) = (torch.load(tmp_path / f"{number}.pt") for number in (0, 1))
    assert seen + others == 2 * IMAGES + 4
    assert min(seen, others) >= 16
    alone = features(tmp_path, "alone")
    for one, other, expected in zip(first, second, alone["features"].maps, strict=True):
        assert torch.equal(one, expected)
        assert torch.equal(other, expected)


def test_a_pass_is_opened_again_in_another_process(cache, tmp_path):
    data = birds(cache, num_train=4)
    module = CachedFeaturesDataModule(data, TinyBackbone(width=8).freeze(), folder=tmp_path / "features", views=1)
    (one,) = module.features("train", train=True).passes
    sent = pickle.dumps(one)
    assert len(sent) < 1000
    assert (pickle.loads(sent).maps[0][0] == one.maps[0][0]).all()

import torch
from pytorch_lightning import LightningDataModule

from kpose.data import SyntheticBirdsDataModule
from kpose.data._digests import describe_data, digest_tensors


class Own(LightningDataModule):
    """Data of a user: an object among the arguments, and a digest of the files."""

    def __init__(self, root, transform, batch_size=4):
        super().__init__()
        self.root, self.transform, self.batch_size = root, transform, batch_size
        self.fingerprint = "abc"


def test_data_are_described_by_what_decides_the_images(tmp_path):
    told = {"num_train": 8, "image_size": 32, "flip": 0.25}
    first = describe_data(SyntheticBirdsDataModule(**told, cache_dir=tmp_path))
    assert told.items() <= first.items()
    assert describe_data(SyntheticBirdsDataModule(**told, batch_size=2, num_workers=1)) == first
    assert describe_data(SyntheticBirdsDataModule(**{**told, "flip": 0.5})) != first


def test_data_of_a_user_are_described_by_attributes_class_and_files():
    found = describe_data(Own("birds", torch.nn.Identity()))
    assert found == {
        "class": f"{__name__}.Own",
        "root": "birds",
        "transform": "torch.nn.modules.linear.Identity",
        "fingerprint": "abc",
    }


def test_tensors_are_told_apart_by_name_type_shape_and_value():
    tensors = {"a": torch.zeros(2, 2)}
    others = ({"b": torch.zeros(2, 2)}, {"a": torch.zeros(4)}, {"a": torch.zeros(2, 2, dtype=torch.float64)}, {})
    assert digest_tensors(tensors) == digest_tensors({"a": torch.zeros(2, 2)})
    assert len({digest_tensors(one) for one in (tensors, *others, {"a": torch.ones(2, 2)})}) == 6

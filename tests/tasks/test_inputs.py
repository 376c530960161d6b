import pytest
import torch

from kpose.data import SyntheticBirdsDataModule
from kpose.tasks.inputs import template_of, training_images
from kpose.templates import bird, save_template


@pytest.fixture
def data(cache, tmp_path):
    return SyntheticBirdsDataModule(
        num_train=3, num_val=1, num_test=1, image_size=32, batch_size=2, cache_dir=cache
    )


def test_a_template_is_given_as_object_or_file_or_not_at_all(tmp_path):
    half = bird()._replace(vertices=bird().vertices / 2)
    save_template(half, tmp_path / "half.safetensors")
    assert template_of(half) is half
    assert torch.equal(template_of(tmp_path / "half.safetensors").vertices, half.vertices)
    assert torch.equal(template_of(None).vertices, bird().vertices)


def test_training_images_need_a_data_module(data):
    assert len(training_images("Someone", data)) == 3
    with pytest.raises(TypeError, match=r"Someone needs a data module with a method `dataset`.*got NoneType"):
        training_images("Someone", None)

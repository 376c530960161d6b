import pytest
import torch

from kpose.data import SyntheticBirdsDataModule
from kpose.pipeline.camera_errors import camera_errors
from kpose.reconstruction import CameraTable, ViewpointGrid


@pytest.fixture
def data(cache, tmp_path):
    return SyntheticBirdsDataModule(
        num_train=3, num_val=1, num_test=1, image_size=32, batch_size=2, cache_dir=cache
    )


def test_errors_are_of_the_cameras_in_their_order(data, tmp_path):
    images = data.dataset("train")
    table = CameraTable.for_images(images, grid=ViewpointGrid(2, 1))
    true = torch.stack([images[k]["camera"].rotation for k in range(3)])
    away = true @ torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    table.reset(table.cameras()._replace(rotation=torch.stack((away, true), 1)))
    table.save(tmp_path / "cameras.safetensors")
    found = camera_errors(data, tmp_path / "cameras.safetensors")
    assert found == pytest.approx({"best_deg": 180, "top4_deg": 0, "best_of_2_deg": 0}, abs=0.1)
    table.set_score(torch.arange(3), torch.tensor([[1.0, 0.0]]).expand(3, 2))
    table.save(tmp_path / "cameras.safetensors")
    assert camera_errors(data, tmp_path / "cameras.safetensors")["best_deg"] == pytest.approx(0, abs=0.1)

import torch
from pipeline.small import backbone, birds

from kpose.pipeline import ChoiceSettings
from kpose.pipeline.choice import choose
from kpose.reconstruction import CameraTable, ViewpointGrid
from kpose.templates import bird


def test_the_choice_ranks_the_same_cameras_by_probability(cache, tmp_path):
    data = birds(cache, num_train=6)
    table = CameraTable.for_images(data.dataset("train"), grid=ViewpointGrid(4, 1))
    rows = torch.arange(6)
    table.set_reference_crop(
        rows, torch.utils.data.default_collate([data.dataset("train")[k]["crop"] for k in range(6)])
    )
    table.set_score(rows, torch.arange(4.0).expand(6, 4))
    table.save(tmp_path / "searched.safetensors")
    settings = ChoiceSettings(num_vertices=100, num_rotations=100, rounds=1)
    options = {"template": bird(), "device": torch.device("cpu")}
    choose(data, backbone(), tmp_path / "searched.safetensors", settings, tmp_path, **options)
    chosen = CameraTable.for_images(data.dataset("train"), file=tmp_path / "cameras.safetensors")
    assert torch.equal(chosen.rotation, table.rotation)
    assert not torch.equal(chosen.order, table.order)
    assert ((chosen.score >= 0) & (chosen.score <= 1)).all()

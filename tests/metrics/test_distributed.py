"""Two processes and one give the same scores, with uneven last batches and with a process that saw nothing."""

import json
from pathlib import Path

import pytest
import torch
from processes import in_two_processes, join
from torch import Tensor
from torchmetrics import MetricCollection

from kpose.geometry import random_rotation
from kpose.metrics import AngularError, KeypointTransfer, MaskIoU, VideoJaccard, ViewpointWasserstein
from kpose.structures import Camera, Mesh
from kpose.templates import bird

NUM_IMAGES = 7
SHARES = {"uneven": ([0, 2, 4, 6], [1, 3, 5]), "one_idle": (list(range(NUM_IMAGES)), [])}


def scores(images: list[int], batch_size: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(2, NUM_IMAGES, 6, 6, generator=generator)
    rotations = random_rotation((2, NUM_IMAGES), generator=generator)
    mask, target_mask = masks
    cameras = [Camera(torch.ones(NUM_IMAGES), torch.zeros(NUM_IMAGES, 2), rotation) for rotation in rotations]
    metrics = MetricCollection(
        {
            "iou": MaskIoU(),
            "iou_hard": MaskIoU(soft=False),
            "angle": AngularError(),
            "viewpoint": ViewpointWasserstein(),
        }
    )
    for start in range(0, len(images), batch_size):
        rows = images[start : start + batch_size]
        camera, target_camera = (Camera(*(entry[rows] for entry in camera)) for camera in cameras)
        metrics.update(mask=mask[rows], target_mask=target_mask[rows], camera=camera, target_camera=target_camera)
    return {**metrics.compute(), "transfer": transfer_score(cameras[0], images), **track_scores(masks, images)}


def transfer_score(cameras: Camera, images: list[int]) -> Tensor:
    metric = KeypointTransfer(num_pairs=200)
    parts = 2 * torch.rand(NUM_IMAGES, 3, 2, generator=torch.Generator().manual_seed(1)) - 1
    template = bird()
    for image in images:
        rows = torch.tensor([image])
        mesh = Mesh(template.vertices[None], template.faces)
        metric.update(cameras.at(rows), mesh, parts[rows], torch.ones(1, 3).bool(), torch.full((1,), 4.0), rows)
    score = metric.compute()
    assert 0 < score < 1
    return score


def track_scores(masks: Tensor, images: list[int]) -> dict[str, Tensor]:
    metric = VideoJaccard(["a", "b"])
    for image in images:
        name, frame = ("a", image) if image < 4 else ("b", image - 4)
        metric.update(*masks[:, image], sequence=name, object_id=1, frame=frame)
    of_b = {f"b/{key}": value for key, value in metric.per_sequence()["b"].items()}
    return {**metric.compute(), **of_b}


def run_rank(rank: int, folder: str) -> None:
    join(rank, folder)
    found = {}
    for name, shares in SHARES.items():
        found[name] = {key: value.item() for key, value in scores(shares[rank], batch_size=2).items()}
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.mark.ddp
def test_two_processes_equal_one(tmp_path: Path) -> None:
    in_two_processes(run_rank, tmp_path)
    expected = {name: value.item() for name, value in scores(list(range(NUM_IMAGES)), batch_size=3).items()}
    assert len(expected) == 14
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        for name in SHARES:
            assert found[name] == pytest.approx(expected, abs=1e-5), (rank, name)

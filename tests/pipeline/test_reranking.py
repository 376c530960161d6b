from functools import partial

import pytest
import torch
from pipeline.small import (
    BATCHES,
    KEYPOINT,
    QUIET,
    SHAPES,
    Kill,
    files,
    killed_at,
    pipeline,
)

import kpose.pipeline.reranking
from kpose.backbones import TinyBackbone
from kpose.geometry import box_to_crop, flip_camera, random_rotation
from kpose.heads import QuaternionHead
from kpose.network import PoseNetwork
from kpose.pipeline import RerankSettings
from kpose.pipeline.reranking import mean_rotations
from kpose.reconstruction import CameraTable, SearchLevel, ViewpointGrid
from kpose.structures import Camera, Features, PosePrediction
from kpose.tasks import CameraSearch

pytestmark = QUIET

ALL = {"rerank": RerankSettings({"quaternion": QuaternionHead}, weight=1.0)}


def table(path, images=24):
    found = CameraTable(torch.arange(images))
    found.load(path)
    return found


def test_a_fold_is_trained_by_itself(cache, tmp_path):
    assert pipeline(tmp_path / "out", cache, **ALL, only="rerank/quaternion-fold1").run() == {}
    assert [path.name for path in (tmp_path / "out" / "rerank").iterdir()] == ["quaternion-fold1"]
    assert not (tmp_path / "out" / "heads").exists()


def test_reranking_changes_the_table_and_survives_a_kill(cache, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            kpose.pipeline.reranking, "rerank_cameras", lambda *args, **settings: (_ for _ in ()).throw(Kill)
        )
        with pytest.raises(Kill):
            pipeline(tmp_path / "out", cache, **ALL).run()
    before = files(tmp_path / "out")
    assert len([path for path in before if path.parts[0] == "rerank" and path.name == "last.ckpt"]) == 2
    metrics = pipeline(tmp_path / "out", cache, **ALL).run()
    after = files(tmp_path / "out")
    assert {path: after[path] for path in before} == before
    (old,) = (tmp_path / "out" / "choice").glob("*/cameras.safetensors")
    (new,) = (tmp_path / "out" / "rerank" / "cameras").glob("*/cameras.safetensors")
    chosen, reranked = table(old), table(new)
    assert torch.equal(chosen.rotation, reranked.rotation)
    assert not torch.equal(chosen.order[:, 0], reranked.order[:, 0])
    assert (reranked.score >= 0).all()
    assert (reranked.score < 1 + 1e-5).all()
    assert metrics["chosen_cameras"]["best_deg"] != metrics["reranked_cameras"]["best_deg"]
    assert metrics["reranked_cameras"] == metrics["cameras"]
    assert (tmp_path / "out" / "cameras.safetensors").read_bytes() == new.read_bytes()


def test_the_average_camera_is_fitted_and_survives_a_kill(cache, tmp_path):
    heads = {"quaternion": QuaternionHead, "points": KEYPOINT}
    rerank = RerankSettings(heads, weight=0.75, fit=SearchLevel(16, 3, 0.05, 4e-4))
    settings = {"rerank": rerank, "shapes": SHAPES}
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, CameraSearch, "training_step", BATCHES + 2)  # the cameras have been searched before
        with pytest.raises(Kill):
            pipeline(tmp_path / "out", cache, **settings).run()
    assert len(list((tmp_path / "out" / "rerank").glob("*-fold*/*/last.ckpt"))) == 4
    assert len(list((tmp_path / "out" / "rerank").glob("cameras/*/partial.safetensors"))) == 1
    metrics = pipeline(tmp_path / "out", cache, **settings).run()
    assert not list((tmp_path / "out" / "rerank").glob("cameras/*/partial.safetensors"))
    (old,) = (tmp_path / "out" / "choice").glob("*/cameras.safetensors")
    (new,) = (tmp_path / "out" / "rerank" / "cameras").glob("*/cameras.safetensors")
    chosen, reranked = table(old), table(new)
    moved = (chosen.rotation != reranked.rotation).flatten(2).any(-1)
    assert (moved.sum(-1) == 1).all()
    assert torch.equal(reranked.order[:, 0], moved.int().argmax(-1))
    assert metrics == pipeline(tmp_path / "whole", cache, **settings).run()


def test_wrong_heads_and_numbers_are_told_before_anything_is_done(cache, tmp_path):
    for heads, message in (
        ({"a/b": QuaternionHead}, r"can be folders; got 'a/b'"),
        ({"points": partial(KEYPOINT, sigma=-1.0)}, "a positive sigma"),
    ):
        with pytest.raises(ValueError, match=message):
            pipeline(tmp_path / "out", cache, rerank=RerankSettings(heads)).run()
    assert files(tmp_path / "out") == {}


class Oracle(PoseNetwork):
    """Predict the rotation that the first pixels of a picture hold, turned."""

    def __init__(self, turned=None):
        super().__init__(TinyBackbone(width=4), QuaternionHead)
        self.turned = torch.eye(3) if turned is None else turned

    def pose(self, features, vertices=None):
        rotation = features.maps[0].flatten(1)[:, :9].reshape(-1, 3, 3) @ self.turned
        return PosePrediction(Camera(torch.ones(len(rotation)), torch.zeros(len(rotation), 2), rotation))


def view_of(index, rotation, flipped):
    features = rotation.reshape(-1, 1, 3, 3)
    count = len(index)
    return {
        "index": index,
        "features": Features((features,)),
        "crop": box_to_crop(torch.tensor([0.0, 0.0, 32.0, 32.0]).expand(count, 4)),
        "flipped": torch.full((count,), flipped),
    }


@pytest.fixture
def named():
    made = CameraTable(torch.tensor([10, 11, 12, 13]), grid=ViewpointGrid(4, 1))
    made.set_reference_crop(torch.arange(4), box_to_crop(torch.tensor([0.0, 0.0, 32.0, 32.0]).expand(4, 4)))
    return made


def test_predictions_for_photo_and_mirror_image_are_averaged(named):
    truth, other = random_rotation((2, 4), generator=torch.Generator().manual_seed(0))
    mirrored = flip_camera(Camera(torch.ones(4), torch.zeros(4, 2), truth)).rotation
    index = named.index
    views = [
        [view_of(index, truth, False)],
        [view_of(index[:2], mirrored[:2], True), view_of(index[2:], mirrored[2:], True)],
    ]
    asked = torch.tensor([0, 1, 0, 1])
    heads = [Oracle(), Oracle(turned=other[0, None])]
    expected = torch.stack([truth[0], (truth @ other[0])[1], truth[2], (truth @ other[0])[3]])
    torch.testing.assert_close(mean_rotations(named, heads, views[:1], asked), expected, atol=1e-6, rtol=0)
    views.append([view_of(index, other, False)])
    expected = (2 * truth + other) / 3
    found = mean_rotations(named, heads, views, torch.zeros_like(asked))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


class Once(list):
    """A view that counts how often it is read."""

    read = 0

    def __iter__(self):
        self.read += 1
        return super().__iter__()


def test_a_view_is_read_once_for_all_folds(named):
    view = Once([view_of(named.index, torch.eye(3).expand(4, 3, 3), False)])
    mean_rotations(named, [Oracle() for _ in range(3)], [view], torch.tensor([0, 1, 2, 0]))
    assert view.read == 1


def test_every_image_needs_a_view(named):
    view = [view_of(named.index[:2], torch.eye(3).expand(2, 3, 3), False)]
    with pytest.raises(ValueError, match="2 of 4 have none"):
        mean_rotations(named, [Oracle()], [view], torch.zeros(4, dtype=torch.long))

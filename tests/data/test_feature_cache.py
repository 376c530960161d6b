"""Cached features: what the backbone gives, computed once."""

import pytest
import torch
from fakes import write_fake_cub

from kpose.backbones import TinyBackbone
from kpose.data import CachedFeaturesDataModule, CUBDataModule
from kpose.data.feature_passes import _stream

SIZE = 32


@pytest.fixture
def root(tmp_path):
    write_fake_cub(tmp_path / "cub")
    return tmp_path / "cub"


def build(root, folder, backbone, **settings):
    data = CUBDataModule(root, image_size=SIZE, batch_size=4)
    return CachedFeaturesDataModule(data, backbone, folder=folder, **settings)


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return TinyBackbone(width=8).freeze()


def test_evaluation_features_are_the_backbone_s(root, tmp_path, backbone):
    module = build(root, tmp_path / "features", backbone)
    batch = next(iter(module.val_dataloader()))
    item = module.data.dataset("val")[0]
    maps = backbone(item["image"][None]).maps
    for cached, fresh in zip(batch["features"].maps, maps, strict=True):
        torch.testing.assert_close(cached[:1].float(), fresh, atol=2e-3, rtol=2e-3)
    assert "image" not in batch
    torch.testing.assert_close(batch["camera"].rotation[0], item["camera"].rotation)
    assert torch.equal(batch["mask"][0], item["mask"])


def test_features_in_bfloat16_are_others_of_the_same_views(root, tmp_path, backbone):
    exact, rough = (
        build(root, tmp_path / "features", backbone, precision=precision).features("train", train=True).passes[0]
        for precision in ("32-true", "bf16-mixed")
    )
    first, second = (torch.from_numpy(views.maps[-1].copy()) for views in (exact, rough))
    assert not torch.equal(first, second)
    torch.testing.assert_close(first, second, atol=5e-2, rtol=5e-2)
    assert torch.equal(exact.rest["camera.rotation"], rough.rest["camera.rotation"])


def test_training_views_belong_to_their_cameras(root, tmp_path, backbone):
    module = build(root, tmp_path / "features", backbone, views=2)
    module.setup("fit")
    passes = module.features("train", train=True).passes
    first, second = (p.rest["camera.translation"] for p in passes)
    assert first.shape == second.shape
    assert not torch.allclose(first, second)
    raw = module.data.dataset("train", train=True)
    augmented = module.data.augment(
        torch.utils.data.default_collate([raw[k] for k in range(len(raw))]), seed=_stream(0, 1, 0)
    )
    torch.testing.assert_close(second, augmented["camera"].translation)
    torch.testing.assert_close(
        torch.from_numpy(passes[1].maps[-1].copy()).float(),
        backbone(augmented["image"]).maps[-1],
        atol=2e-3,
        rtol=2e-3,
    )


def test_an_epoch_has_every_image_once(root, tmp_path, backbone):
    module = build(root, tmp_path / "features", backbone, views=2, batch_size=2)
    module.setup("fit")
    seen = torch.cat([batch["index"] for batch in module.train_dataloader()])
    assert sorted(seen.tolist()) == sorted(module.dataset("train").indices.tolist())


def test_pictures_are_those_of_the_views(root, tmp_path, backbone):
    folder = tmp_path / "features"
    build(root, folder, backbone, views=2).setup("fit")
    backbone.pyramid = None  # features are there: any use of the backbone would fail now
    module = build(root, folder, backbone, views=2, picture_size=8)
    module.setup("fit")
    raw = module.data.dataset("train", train=True)
    whole = torch.utils.data.default_collate([raw[k] for k in range(len(raw))])
    for view, one in enumerate(module.features("train", train=True).passes):
        expected = module.data.augment(whole, seed=_stream(0, view, 0))["image"]
        expected = torch.nn.functional.interpolate(expected, (8, 8), mode="area")
        assert (torch.from_numpy(one.pictures.copy()) / 255 - expected).abs().max() < 0.5 / 255 + 1e-6
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape[-2:] == batch["mask"].shape[-2:] == (8, 8)
    assert 0.1 < batch["mask"].float().mean() < 0.9
    with pytest.raises(ValueError, match="picture_size; got 0"):
        build(root, folder, backbone, picture_size=0)


def test_nothing_is_computed_twice(root, tmp_path, backbone):
    folder = tmp_path / "features"
    build(root, folder, backbone).setup("fit")
    backbone.pyramid = None  # any use of the backbone would fail now
    build(root, folder, backbone).setup("fit")


def test_other_weights_and_other_data_are_computed_by_themselves(root, tmp_path, backbone):
    folder = tmp_path / "features"
    torch.manual_seed(1)
    other = TinyBackbone(width=8).freeze()
    plain = {"image_size": SIZE, "batch_size": 4}
    for used, settings, count in (
        (backbone, plain, 1),
        (backbone, {**plain, "batch_size": 2, "num_workers": 1, "test_split": "train"}, 1),
        (other, plain, 2),
        (backbone, {**plain, "jitter": 0.1}, 3),
    ):
        CachedFeaturesDataModule(CUBDataModule(root, **settings), used, folder=folder).features("val")
        assert len(list(folder.iterdir())) == count


def test_an_interrupted_pass_leaves_nothing_behind(root, tmp_path, backbone, monkeypatch):
    folder = tmp_path / "features"
    module, pyramid, calls = build(root, folder, backbone, views=2), backbone.pyramid, []

    def interrupted(image):
        calls.append(image)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return pyramid(image)

    with monkeypatch.context() as patch:
        patch.setattr(backbone, "pyramid", interrupted)
        with pytest.raises(KeyboardInterrupt):
            module.setup("fit")
    (key,) = folder.iterdir()
    assert {path.name for path in key.iterdir()} == {"train-view0", ".lock"}
    calls.clear()
    backbone.pyramid = lambda image: calls.append(image) or pyramid(image)
    module.setup("fit")  # the pass that was finished is not computed again
    assert len(calls) == 1


def test_a_trainable_backbone_is_refused(root, tmp_path):
    with pytest.raises(ValueError, match="frozen=True"):
        build(root, tmp_path, TinyBackbone(width=8))


def test_no_views_are_refused(root, tmp_path, backbone):
    with pytest.raises(ValueError, match="views=0"):
        build(root, tmp_path, backbone, views=0)


def test_what_is_computed_already_does_not_change_what_is_drawn(root, tmp_path, backbone):
    states = []
    for _ in ("cold", "warm"):
        torch.manual_seed(3)
        module = build(root, tmp_path / "features", backbone, picture_size=16)
        module.setup("fit")
        states.append(torch.get_rng_state())
    assert torch.equal(*states)

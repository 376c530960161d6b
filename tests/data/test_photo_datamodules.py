import csv
import pickle
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from fakes import PARTS, write_fake_cub
from PIL import Image

from kpose.data import CUBDataModule, FolderDataModule, SyntheticBirdsDataModule, read_mean_parts
from kpose.data._transforms import flip_batch, mirror_names
from kpose.geometry import project
from kpose.recipe import encode


class Recorder(pl.LightningModule):
    """Keeps what it is given; learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch):
        self.seen.append(batch)
        return self.weight * batch["image"].mean()

    def validation_step(self, batch):
        self.seen.append(batch)

    def test_step(self, batch):
        self.seen.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("cub")
    write_fake_cub(root, 12)
    return root


def trainer(tmp_path, **options) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, **options},
    )


quiet = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*defined a .validation_step.*",
    )
]
pytestmark = quiet


def module(root, **options) -> CUBDataModule:
    return CUBDataModule(root, **{"image_size": 16, "batch_size": 4, **options})


def fit(root, tmp_path, model=None, **options) -> list:
    pl.seed_everything(5, verbose=False)
    model = Recorder() if model is None else model
    trainer(tmp_path, max_epochs=2, limit_val_batches=0, num_sanity_val_steps=0).fit(model, module(root, **options))
    return model.seen


def test_training_batches_are_augmented_and_consistent(root, tmp_path):
    seen = fit(root, tmp_path, color=0.2)
    assert [len(batch["image"]) for batch in seen] == [4] * 4
    for batch in seen:
        assert batch["image"].shape == (4, 3, 16, 16)
        assert batch["mask"].shape == (4, 16, 16)
        distance = (project(PARTS.expand(4, -1, -1), batch["camera"]) - batch["parts"]).norm(dim=-1)
        assert distance[batch["parts_visible"]].max() < 1e-3
    flipped = torch.cat([batch["flipped"] for batch in seen])
    assert flipped.any()
    assert not flipped.all()
    assert torch.cat([batch["crop"].scale for batch in seen]).unique().numel() == 16


def test_two_networks_see_the_same(root, tmp_path):
    class Greedy(Recorder):
        def training_step(self, batch):
            torch.rand(7)  # a network that draws random numbers of its own
            return super().training_step(batch)

    for one, other in zip(fit(root, tmp_path), fit(root, tmp_path, Greedy()), strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["index"], other["index"])


def test_workers_change_nothing(root, tmp_path):
    for one, other in zip(fit(root, tmp_path), fit(root, tmp_path, num_workers=2), strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["camera"].rotation, other["camera"].rotation)


def test_resumed_run_sees_what_it_would_have_seen(root, tmp_path):
    whole = fit(root, tmp_path)
    pl.seed_everything(5, verbose=False)
    options = {"limit_val_batches": 0, "num_sanity_val_steps": 0}
    first = trainer(tmp_path, max_epochs=1, **options)
    first.fit(Recorder(), module(root))
    first.save_checkpoint(tmp_path / "half.ckpt")
    pl.seed_everything(5, verbose=False)
    model = Recorder()
    trainer(tmp_path, max_epochs=2, **options).fit(
        model, module(root), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    assert len(model.seen) == 2
    for one, other in zip(whole[2:], model.seen, strict=True):
        assert torch.equal(one["image"], other["image"])


def test_evaluation_is_not_augmented(root, tmp_path):
    data = module(root, test_split="train")
    model = Recorder()
    trainer(tmp_path).validate(model, data, verbose=False)
    assert [batch["index"].tolist() for batch in model.seen] == [[3, 7, 11]]
    model.seen.clear()
    trainer(tmp_path).test(model, data, verbose=False)
    assert torch.cat([batch["index"] for batch in model.seen]).tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert model.seen[0]["image"].shape == (4, 3, 16, 16)
    assert not torch.cat([batch["flipped"] for batch in model.seen]).any()
    item = data.dataset("train")[0]
    assert torch.equal(model.seen[0]["image"][0], item["image"])


def test_data_module_describes_itself(root):
    data = module(root)
    assert repr(data) == "CUBDataModule(not read yet; 16 px, batches of 4)"
    data.setup("fit")
    assert repr(data) == "CUBDataModule(9 train, 3 val; 16 px, batches of 4)"


def test_split_without_images_says_so(root):
    with pytest.raises(ValueError, match="split 'test'"):
        module(root, test_split="test").setup("test")


def test_training_crops_have_room_for_the_jitter(root):
    data = module(root, image_size=110, padding=0.05, jitter=0.05)
    assert data.dataset("train", train=True).image_size == 130
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 3, 130, 130)
    assert data.augment(batch, seed=0)["image"].shape == (4, 3, 110, 110)


def test_flip_reprojects_real_parts_as_before(cub_root):
    data = CUBDataModule(cub_root, image_size=32, batch_size=64, cache=False)
    mean = read_mean_parts(cub_root / "sfm/mean_parts.csv").expand(64, -1, -1)
    batch = next(iter(data.val_dataloader()))
    flipped = flip_batch(batch, torch.ones(64, dtype=torch.bool), part_mirror=mirror_names(data.part_names))
    errors = [
        (project(mean, either["camera"]) - either["parts"]).norm(dim=-1)[either["parts_visible"]].sort().values
        for either in (batch, flipped)
    ]
    # Left and right parts differ in depth only, and the mean shape is symmetric: the very same distances.
    assert torch.allclose(*errors, atol=1e-5)
    assert errors[0].mean() < 0.12


def test_real_photographs_are_whole_and_split_by_their_cameras(cub_root):
    data = CUBDataModule(cub_root, image_size=32, batch_size=8, cache=False)
    data.setup("fit")
    with (cub_root / "sfm/cameras.csv").open(newline="") as file:
        splits = {row["image_id"]: row["split"] for row in csv.DictReader(file)}
    for split in ("train", "val"):
        dataset = data.dataset(split)
        assert data.split_sizes[split] == len(dataset) == sum(name == split for name in splits.values())
        assert {splits[name] for name in dataset.names} == {split}
    whole = []
    for row in dataset.rows[::100]:
        left, top, right, bottom = data.photos.boxes[row].tolist()
        with Image.open(cub_root / "images" / data.photos.files[row]) as photo:
            assert -1 <= left < right <= photo.width + 1
            assert -1 <= top < bottom <= photo.height + 1
            whole.append(photo.width != photo.height)
    assert sum(whole) > len(whole) / 2  # no square crops


@pytest.mark.parametrize("kind", ["cub", "folder", "birds"])
def test_data_modules_keep_their_arguments_and_can_be_pickled(root, tmp_path, kind):
    data = {
        "cub": lambda: module(root, jitter=0.1),
        "folder": lambda: FolderDataModule(root, annotations={"train": Path("a.json")}, category="car", flip=0.1),
        "birds": lambda: SyntheticBirdsDataModule(num_train=3, cache_dir=tmp_path, color=0.1),
    }[kind]()
    copy = pickle.loads(pickle.dumps(data))
    assert encode(copy) == encode(data)
    for name, value in data.recorded_arguments().items():
        assert (
            getattr(data, name) == getattr(copy, name) == (0 if name == "num_workers" else value)
        )  # None: the machine's
    if kind == "cub":
        assert torch.equal(copy.dataset("val")[0]["image"], data.dataset("val")[0]["image"])

import pickle
import threading

import pytest
import torch
from pytorch_lightning import seed_everything
from torch.utils.data import default_collate

from kpose.data import SyntheticBirdsDataModule, SyntheticBirdsDataset
from kpose.geometry import apply_crop, project
from kpose.rendering import HardRenderer
from kpose.structures import Mesh
from kpose.templates import bird

SIZE = 24


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """Render four pictures at a time: a block of 32 takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kpose.data.synthetic._BLOCK", 4)
        yield


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("birds")


@pytest.fixture
def dataset(cache_dir):
    return SyntheticBirdsDataset(6, SIZE, seed=3, cache_dir=cache_dir)


def test_items_are_consistent(dataset):
    batch = default_collate([dataset[index] for index in range(len(dataset))])
    template = bird()
    assert batch["image"].shape == (6, 3, SIZE, SIZE)
    assert batch["image"].dtype == torch.float32
    assert 0 <= batch["image"].min() < 0.3 < 0.7 < batch["image"].max() <= 1
    assert batch["index"].tolist() == list(range(6))
    assert not batch["flipped"].any()
    torch.testing.assert_close(torch.linalg.det(batch["camera"].rotation), torch.ones(6))

    rendering = HardRenderer().render(Mesh(batch["vertices"], template.faces), batch["camera"], SIZE)
    mask = rendering.mask > 0.5
    overlap = (mask & batch["mask"]).sum((1, 2)) / (mask | batch["mask"]).sum((1, 2))
    assert overlap.min() > 0.85  # only pixels on the outline differ: theirs is the mean of four samples

    parts = project(batch["vertices"][:, template.part_vertices], batch["camera"])
    visible = batch["parts_visible"]
    torch.testing.assert_close(batch["parts"][visible], parts[visible])
    assert (batch["parts"][~visible] == 0).all()
    assert 0 < visible.float().mean() < 1

    corners = torch.tensor([[0.0, 0.0], [SIZE, SIZE]]).expand(6, 2, 2)
    assert apply_crop(corners, batch["crop"]).tolist() == [[[-1, -1], [1, 1]]] * 6


def test_items_depend_on_seed_and_number_only(dataset, tmp_path):
    other = SyntheticBirdsDataset(40, SIZE, seed=3, cache_dir=tmp_path)
    assert torch.equal(other[4]["image"], dataset[4]["image"])
    assert torch.equal(other[4]["vertices"], dataset[4]["vertices"])
    assert not torch.equal(dataset[4]["image"], dataset[5]["image"])
    reseeded = SyntheticBirdsDataset(6, SIZE, seed=4, cache_dir=tmp_path)
    assert not torch.equal(reseeded[4]["image"], dataset[4]["image"])


def test_cache_is_used_and_rebuilt_when_corrupt(tmp_path, monkeypatch):
    dataset = SyntheticBirdsDataset(2, 8, cache_dir=tmp_path)
    dataset.prepare(progress=False)
    (file,) = dataset.folder.iterdir()
    image = dataset[1]["image"]

    with monkeypatch.context() as patch:
        patch.setattr("kpose.data.synthetic.render_birds", None)  # rendering would fail
        fresh = SyntheticBirdsDataset(2, 8, cache_dir=tmp_path)
        fresh.prepare()
        assert torch.equal(fresh[1]["image"], image)

    for damaged in (b"", b"nonsense", file.read_bytes()[:-7]):
        file.unlink()
        file.write_bytes(damaged)
        assert torch.equal(SyntheticBirdsDataset(2, 8, cache_dir=tmp_path)[1]["image"], image)
        assert [path.suffix for path in dataset.folder.iterdir()] == [".safetensors"]


def test_dataset_travels_to_workers(dataset):
    dataset[0]
    assert len(pickle.dumps(dataset)) < 200_000
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[0]["image"], dataset[0]["image"])


def test_default_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert SyntheticBirdsDataset(1).cache_dir == tmp_path / "kpose"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 0}, "at least one picture"),
        ({"num_images": 1, "image_size": 0}, "image_size from 1 to"),
        ({"num_images": 1, "seed": -1}, "seed from 0"),
        ({"num_images": 1, "start": 5}, "multiple of 4"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SyntheticBirdsDataset(**arguments)


def test_index_outside_is_refused(dataset):
    with pytest.raises(IndexError, match="6 pictures"):
        dataset[6]


@pytest.fixture
def datamodule(cache_dir):
    seed_everything(0)
    module = SyntheticBirdsDataModule(
        num_train=8, num_val=2, num_test=3, image_size=SIZE, batch_size=4, seed=3, cache_dir=cache_dir
    )
    module.prepare_data()
    module.setup("fit")
    return module


def test_splits_are_disjoint(datamodule):
    numbers = [
        {int(index) for batch in loader for index in batch["index"]}
        for loader in (datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader())
    ]
    assert [len(split) for split in numbers] == [8, 2, 3]
    assert len(set.union(*numbers)) == 13


def test_data_module_describes_itself_and_keeps_its_arguments(datamodule, cache_dir):
    assert repr(datamodule) == f"SyntheticBirdsDataModule(8 train, 2 val, 3 test; {SIZE} px, batches of 4)"
    assert (datamodule.seed, datamodule.cache_dir, datamodule.num_train) == (3, cache_dir, 8)


def test_too_large_sets_are_refused():
    with pytest.raises(ValueError, match="at most"):
        SyntheticBirdsDataModule(num_val=1 << 25)


def test_augmentation_keeps_labels_right(datamodule):
    template = bird()
    batch = next(iter(datamodule.train_dataloader()))
    datamodule.flip = 1.0
    augmented = datamodule.augment(batch, seed=0)
    assert augmented["flipped"].all()
    mesh = Mesh(augmented["vertices"], template.faces)
    mask = HardRenderer().render(mesh, augmented["camera"], SIZE).mask > 0.5
    overlap = (mask & augmented["mask"]).sum((1, 2)) / (mask | augmented["mask"]).sum((1, 2))
    assert overlap.min() > 0.85
    parts = project(augmented["vertices"][:, template.part_vertices], augmented["camera"])
    visible = augmented["parts_visible"]
    torch.testing.assert_close(augmented["parts"][visible], parts[visible])


def test_names_and_indices_are_those_of_the_items(cache_dir):
    dataset = SyntheticBirdsDataset(3, SIZE, seed=3, start=32, cache_dir=cache_dir)
    assert dataset.names == ("32", "33", "34")
    assert dataset.indices.tolist() == [32, 33, 34]
    assert dataset[1]["index"] == 33


def test_kinds_of_birds_are_kept_apart(tmp_path):
    any_bird = SyntheticBirdsDataset(1, 16, cache_dir=tmp_path)
    one_kind = SyntheticBirdsDataset(1, 16, cache_dir=tmp_path, variety=0.0)
    assert not torch.equal(any_bird[0]["image"], one_kind[0]["image"])
    assert torch.equal(any_bird[0]["mask"], one_kind[0]["mask"])
    with pytest.raises(ValueError, match="variety from 0 to 1"):
        SyntheticBirdsDataset(1, 16, cache_dir=tmp_path, variety=1.5)


def test_rendering_leaves_the_global_generators_as_they_were(tmp_path):
    before = torch.get_rng_state()
    SyntheticBirdsDataset(1, 16, cache_dir=tmp_path)[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_an_interruption_waits_for_the_threads_that_render(tmp_path, monkeypatch):
    """One that is left inside of torch would abort the process at its end."""
    begun, ended = [], []

    def render(_, number):
        begun.append(number)
        if len(begun) > 1:
            threading.Event().wait(0.3)
        ended.append(number)

    class Bar:
        def __init__(self, **_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, _):
            raise KeyboardInterrupt

    monkeypatch.setattr(SyntheticBirdsDataset, "_render", render)
    monkeypatch.setattr("kpose.data.synthetic.tqdm", Bar)
    with pytest.raises(KeyboardInterrupt):
        SyntheticBirdsDataset(40, 8, cache_dir=tmp_path).prepare()
    assert sorted(begun) == sorted(ended)
    assert len(begun) < 10  # of which the others are not begun

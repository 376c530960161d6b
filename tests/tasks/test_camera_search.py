import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from kpose.data import SyntheticBirdsDataModule, SyntheticBirdsDataset
from kpose.reconstruction import CameraTable, SearchLevel, ViewpointGrid
from kpose.tasks import CameraSearch

LEVELS = (SearchLevel(16, 4, 0.1, 4e-4),)
GRID = ViewpointGrid(azimuths=4, elevations=1)


@pytest.fixture(scope="module")
def birds(cache):
    return SyntheticBirdsDataset(6, 32, cache_dir=cache)


def trainer(tmp_path, **options):
    return pl.Trainer(
        default_root_dir=tmp_path,
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        **options,
    )


def search(birds, table=None):
    table = table or CameraTable(birds.indices, names=birds.names, grid=GRID)
    return CameraSearch(table, num_vertices=100, levels=LEVELS, gain=0.3)


def test_every_image_is_searched_and_scored(birds, tmp_path):
    task, runner = search(birds), trainer(tmp_path)
    start = task.table.cameras()
    runner.fit(task, DataLoader(birds, batch_size=4))
    assert task.table.scored.all()
    assert (task.table.cameras().scale != start.scale).any(1).all()
    assert task.table.crop_scale.isfinite().all()
    assert {"train/loss", "train/best_deg", "train/top4_deg", "train/best_of_all_deg"} <= set(runner.logged_metrics)


def test_a_stopped_search_goes_on_with_the_others(birds, tmp_path):
    whole = search(birds)
    trainer(tmp_path).fit(whole, DataLoader(birds, batch_size=2))

    first = search(birds)
    trainer(tmp_path, limit_train_batches=1).fit(first, DataLoader(birds, batch_size=2))
    assert first.table.scored.tolist() == [True] * 2 + [False] * 4
    first.table.save(tmp_path / "cameras.safetensors")

    second = search(birds)
    second.table.load(tmp_path / "cameras.safetensors")
    trainer(tmp_path).fit(second, DataLoader(birds, batch_size=2))
    for name, buffer in whole.table.named_buffers():
        assert torch.equal(buffer, dict(second.table.named_buffers())[name]), name


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`")
def test_the_table_is_made_for_the_data_modules_training_set(cache, tmp_path):
    data = SyntheticBirdsDataModule(
        num_train=6, num_val=2, num_test=2, image_size=32, batch_size=3, cache_dir=cache
    )
    task = CameraSearch(num_vertices=100, levels=LEVELS, grid=GRID, gain=0.3)
    with pytest.raises(RuntimeError, match="needs cameras"):
        _ = task.table
    runner = trainer(tmp_path)
    runner.fit(task, data)
    assert task.table.num_images == 6
    assert task.table.scored.all()

    runner.save_checkpoint(tmp_path / "search.ckpt")
    again = CameraSearch.load_from_checkpoint(tmp_path / "search.ckpt", num_vertices=100, levels=LEVELS)
    assert torch.equal(again.table.score, task.table.score)


def test_mirrored_crops_give_the_cameras_of_unmirrored_ones(birds, tmp_path):
    plain = next(iter(DataLoader(birds, batch_size=3)))
    mirrored = dict(plain, mask=plain["mask"].flip(-1), flipped=torch.ones(3, dtype=torch.bool))
    del mirrored["camera"]
    tables = []
    for batch in (plain, mirrored):
        task = search(birds)
        trainer(tmp_path).fit(task, DataLoader([batch], batch_size=None))
        tables.append(task.table)
    for first, second in zip(*(t.cameras(torch.arange(3)) for t in tables), strict=True):
        torch.testing.assert_close(first, second)


def test_cameras_of_other_crops_are_mapped_before_they_are_fitted(birds, tmp_path):
    batch = next(iter(DataLoader(birds, batch_size=6)))
    tables = []
    for zoom in (1.0, 2.0):
        table = CameraTable(birds.indices, names=birds.names, grid=GRID)
        rows, crop = table.rows(batch["index"]), batch["crop"]
        table.set_reference_crop(rows, crop._replace(scale=crop.scale * zoom, translation=crop.translation * zoom))
        table.reset(table.cameras()._replace(scale=table.scale * zoom))
        trainer(tmp_path).fit(search(birds, table), DataLoader(birds, batch_size=6))
        tables.append(table)
    torch.testing.assert_close(tables[0].crop_scale[rows], crop.scale)
    for first, second in zip(*(table.cameras() for table in tables), strict=True):
        torch.testing.assert_close(first, second)

from itertools import chain
from pathlib import Path

import pytest
import torch
from processes import in_two_processes, join

from kpose.data._training_loader import TrainingLoader, default_workers


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 31

    def __getitem__(self, number):
        return torch.tensor(number)


def loader(batch_size, rows=range(31), **options):
    return TrainingLoader(Numbers(), rows, batch_size, seed=3, **options)


def epoch(loader, number=0):
    loader.sampler.set_epoch(number)
    return [batch.tolist() for batch in loader]


def run_rank(rank: int, folder: str) -> None:
    join(rank, folder)
    torch.save([epoch(loader(4)), epoch(loader(16))], Path(folder, f"{rank}.pt"))


@pytest.mark.ddp
def test_processes_share_the_batches_of_one(tmp_path):
    in_two_processes(run_rank, tmp_path)
    whole, few = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)), strict=True)
    together = [sorted(first + second) for first, second in zip(*whole, strict=True)]
    assert together == [sorted(batch) for batch in epoch(loader(8))]
    assert [len(batch) for batch in few[0]] == [16]  # fewer images than a batch of both: none is left out
    assert set(few[0][0] + few[1][0]) == set(range(31))


def test_order_depends_on_seed_and_epoch_alone():
    state = torch.get_rng_state()
    first, later = epoch(loader(8)), epoch(loader(8), 1)
    assert epoch(loader(8)) == first != later
    assert torch.equal(torch.get_rng_state(), state)


def test_only_rows_are_trained_on_and_views_are_drawn_at_random():
    rows = [2, 3, 5, 7, 11, 13]
    assert sorted(chain(*epoch(loader(3, rows)))) == rows
    (asked,) = epoch(loader(31, views=4))
    assert sorted(number % 31 for number in asked) == list(range(31))
    assert {number // 31 for number in asked} == {0, 1, 2, 3}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_where_it_was_left(workers):
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    whole, one = epoch(loader(8), 2), loader(8, **options)
    one.sampler.set_epoch(2)
    batches = iter(one)
    assert [next(batches).tolist() for _ in range(2)] == whole[:2]
    state = one.state_dict()
    again = loader(8, **options)
    again.load_state_dict(state)
    assert epoch(again, 2) == whole[2:]
    assert epoch(again, 3) == epoch(loader(8), 3)
    again.load_state_dict(one.state_dict() | {"batches": len(one)})  # an epoch that was over
    assert len(epoch(again, 3)) == len(one)


def test_images_are_loaded_by_as_many_processes_as_there_are_cores_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for cores, expected in ((64, 8), (10, 4), (2, 1)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: range(cores), raising=False)
        assert default_workers() == expected
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_workers() == 0

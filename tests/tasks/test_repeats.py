import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from kpose.structures import Camera
from kpose.tasks.repeats import without_repeats


class Numbers(torch.utils.data.Dataset):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        return {"index": torch.tensor(row), "camera": Camera(torch.tensor(1.0), torch.zeros(2), torch.eye(3))}


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("count", [3, 4, 5, 7])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_every_image_is_evaluated_once(count, processes, batch_size):
    seen = []
    for rank in range(processes):
        sampler = DistributedSampler(Numbers(count), processes, rank, shuffle=False)
        loader = DataLoader(Numbers(count), batch_size=batch_size, sampler=sampler)
        for number, batch in enumerate(loader):
            kept = without_repeats(batch, number, loader)
            if kept is not None:
                assert len(kept["camera"].rotation) == len(kept["index"]) > 0
                seen += kept["index"].tolist()
    assert sorted(seen) == list(range(count))


def test_a_process_without_images_of_its_own_keeps_one():
    sampler = DistributedSampler(Numbers(2), 3, 2, shuffle=False)
    (batch,) = loader = DataLoader(Numbers(2), batch_size=4, sampler=sampler)
    assert without_repeats(batch, 0, loader)["index"].tolist() == [0]


def test_one_process_evaluates_all_it_is_given():
    loader = DataLoader(Numbers(5), batch_size=2)
    assert [len(without_repeats(batch, k, loader)["index"]) for k, batch in enumerate(loader)] == [2, 2, 1]

"""Two processes and one learn the same."""

import multiprocessing
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from reconstruction.training import QUIET, Data, task, tensors, trainer

pytestmark = QUIET


def fit_once(folder, **settings):
    model = task(optimizer=partial(torch.optim.SGD, lr=1e-2), camera_lr=0.05)
    trainer(folder, max_epochs=2, **settings).fit(model, Data(batch_size=4 // settings.get("devices", 1)))
    return tensors(model)


def run_rank(rank: int, folder: str) -> None:
    """Be one of two processes that a launcher such as torchrun has started."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    os.environ.update({name: str(value) for name, value in place.items()}, TORCHELASTIC_RUN_ID="test")
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.save(fit_once(folder, strategy="ddp", devices=2), Path(folder, f"{rank}.pt"))


@pytest.mark.ddp
def test_two_processes_equal_one(tmp_path):
    # The two are forked from one process that has imported what is slow to import.
    multiprocessing.set_forkserver_preload(["kpose.tasks"])
    torch.multiprocessing.start_processes(run_rank, (str(tmp_path),), nprocs=2, start_method="forkserver")
    expected = fit_once(tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, value in expected.items():
        assert torch.equal(first[name], second[name]), name
        assert torch.allclose(first[name], value, atol=1e-5), name

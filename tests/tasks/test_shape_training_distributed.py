"""Two processes and one learn the same."""

from functools import partial
from pathlib import Path

import pytest
import torch
from processes import in_two_processes, join
from reconstruction.training import QUIET, Data, task, tensors, trainer
from torch.nn.parallel import DistributedDataParallel

pytestmark = QUIET


def fit_once(folder, **settings):
    model = task(optimizer=partial(torch.optim.SGD, lr=1e-2), camera_lr=0.05)
    trainer(folder, max_epochs=2, **settings).fit(model, Data(batch_size=4 // settings.get("devices", 1)))
    return tensors(model)


def run_rank(rank: int, folder: str) -> None:
    join(rank, folder)
    torch.save(fit_once(folder, strategy="ddp", devices=2), Path(folder, f"{rank}.pt"))
    model = DistributedDataParallel(task())
    sent = {name for name, _ in model.module.named_buffers() if name not in model.parameters_to_ignore}
    assert any(name.startswith("backbone.") for name in sent)
    assert not any(name.startswith("camera_optimizer.") for name in sent)


@pytest.mark.ddp
def test_two_processes_equal_one(tmp_path):
    in_two_processes(run_rank, tmp_path)
    expected = fit_once(tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, value in expected.items():
        assert torch.equal(first[name], second[name]), name
        assert torch.allclose(first[name], value, atol=1e-4), name

from pathlib import Path

import pytest
import torch
from processes import in_two_processes, join

from kpose.reconstruction.row_state import RowState, gather_rows


class Rows(RowState):
    def __init__(self, count):
        super().__init__()
        self.register_buffer("value", torch.arange(float(count)))


def test_buffers_take_the_size_of_a_checkpoint():
    small, large = Rows(2), Rows(5)
    large.value += 1
    small.load_state_dict(large.state_dict())
    assert small.value.tolist() == [1, 2, 3, 4, 5]


def run_rank(rank, folder):
    join(rank, folder)
    count = 3 - 2 * rank  # uneven, as a last batch is
    rows = torch.arange(count) + 10 * rank
    torch.save(gather_rows(rows, rows[:, None] / 2), Path(folder, f"{rank}.pt"))


@pytest.mark.ddp
def test_all_processes_get_the_rows_of_all(tmp_path):
    in_two_processes(run_rank, tmp_path)
    for rank in (0, 1):
        rows, values = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert rows.tolist() == [0, 1, 2, 10]
        assert torch.equal(values, rows[:, None] / 2)

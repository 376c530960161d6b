import io
import random

import numpy as np
import pytest
import torch

from kpose.callbacks import KeepRandomState


def draw():
    numbers = np.random.rand(2).tolist()  # noqa: NPY002 - the generator that all code shares
    return [torch.rand(2).tolist(), numbers, random.random(), random.gauss(0, 1)]


def stored(state):
    """Give a state as a checkpoint that runs no code gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_what_is_drawn_after_a_checkpoint_is_drawn_again():
    draw()
    state = stored(KeepRandomState().state_dict())
    first = draw()
    assert draw() != first
    KeepRandomState().load_state_dict(state)
    assert draw() == first


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_again_too():
    state = stored(KeepRandomState().state_dict())
    first = torch.rand(3, device="cuda")
    KeepRandomState().load_state_dict(state)
    assert torch.equal(torch.rand(3, device="cuda"), first)


def test_a_machine_with_other_gpus_keeps_theirs():
    state = KeepRandomState().state_dict()
    state["cuda"] = [torch.zeros(16, dtype=torch.uint8)] * (torch.cuda.device_count() + 1)
    KeepRandomState().load_state_dict(state)

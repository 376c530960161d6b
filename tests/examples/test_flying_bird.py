import runpy
from pathlib import Path

import pytest
import torch

from kpose.video import open_frames
from kpose.visualization import from_pillow

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "flying_bird.py"))

pytest.importorskip("av")


def test_the_bird_crosses_the_frame_and_turns(tmp_path):
    box = EXAMPLE["flying_bird"](tmp_path / "bird.mp4", seconds=0.2, height=54, seed=1)
    frames = [from_pillow(frame.image) for frame in open_frames(str(tmp_path / "bird.mp4"))]
    assert [tuple(frame.shape) for frame in frames] == [(3, 54, 96)] * 5
    changed = (frames[0] - frames[-1]).abs().amax(0) > 0.15
    assert changed[:, :40].any()
    assert changed[:, 60:].any()
    left, top, right, bottom = box
    assert 0 <= left < right < 60
    assert 0 <= top < bottom <= 54
    assert changed[top:bottom, left:right].float().mean() > 0.2
    assert [path.name for path in tmp_path.iterdir()] == ["bird.mp4"]


def test_the_box_holds_the_bird_and_nothing_else():
    mesh, white = EXAMPLE["painted_bird"](2), torch.ones(3, 54, 96)
    for time in (0.0, 0.5, 0.9):
        picture, (left, top, right, bottom) = EXAMPLE["draw_frame"](mesh, white, time)
        rows, columns = (picture.amin(0) < 0.5).nonzero().unbind(-1)
        assert abs(rows.min() - top) <= 1
        assert abs(rows.max() + 1 - bottom) <= 1
        assert abs(columns.min() - left) <= 1
        assert abs(columns.max() + 1 - right) <= 1

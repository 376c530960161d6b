from pathlib import Path

import pytest
from PIL import Image
from video.conftest import SIZE, draw_bird, write_masks

from kpose.video import DiskTracker, Frame
from kpose.video.disk import read_mask_folder


def test_disk_reports_what_is_not_seen(tmp_path: Path) -> None:
    tracker = DiskTracker(write_masks(tmp_path))
    Image.new("L", SIZE).save(tmp_path / "00002.png")
    state = tracker.start()
    for number in range(3):
        tracks, state = tracker.step(state, Frame(number, 0.0, draw_bird(number)))
    assert tracks[0].identity == 1
    assert tracks[0].box is None
    with pytest.raises(ValueError, match="got number 10"):
        tracker.step(state, Frame(10, 0.4, draw_bird(0)))
    with pytest.raises(ValueError, match="00003"):
        tracker.step(state, Frame(3, 0.1, Image.new("RGB", (20, 20))))
    folder = read_mask_folder(tmp_path)
    assert len(folder) == 10
    assert folder.objects == {1: ""}
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read_mask_folder(tmp_path / "missing")

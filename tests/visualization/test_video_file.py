import itertools
import sys

import pytest
from PIL import Image

from kpose.visualization import VideoWriter


def test_times_are_kept_and_always_grow(tmp_path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with VideoWriter(tmp_path / "a.mp4", (32, 16)) as video:
        for time in (0.0, 0.5, 0.5, 0.9):
            video.add(Image.new("RGB", (32, 16)), time)
    with av.open(str(tmp_path / "a.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([0.0, 0.5, 0.5, 0.9], abs=1e-3)
    assert all(after > before for before, after in itertools.pairwise(times))


def test_a_missing_extra_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'kpose\[video\]'"):
        VideoWriter(tmp_path / "a.mp4", (32, 16))

import itertools
import sys

import pytest
import torch
from PIL import Image

from kpose.structures import Mesh
from kpose.templates import bird, template_mesh
from kpose.visualization import VideoWriter, from_pillow, save_animation, turntable


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return template_mesh(bird())


def test_a_gif_shows_the_frames(mesh: Mesh, tmp_path) -> None:
    frames = turntable(mesh, 48, num_frames=6)
    save_animation(frames, tmp_path / "new" / "bird.gif", fps=10)
    with Image.open(tmp_path / "new" / "bird.gif") as found:
        assert found.n_frames == 6
        assert found.info["duration"] == 100
        assert found.info["loop"] == 0
        for number in (0, 3, 5):
            found.seek(number)
            assert (from_pillow(found) - frames[number]).abs().mean() < 0.02


def test_an_mp4_shows_the_frames(mesh: Mesh, tmp_path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    frames = turntable(mesh, 49, num_frames=6)
    save_animation(frames, tmp_path / "bird.mp4", fps=10)
    with av.open(str(tmp_path / "bird.mp4")) as container:
        found = [(frame.time, from_pillow(frame.to_image())) for frame in container.decode(video=0)]
    assert [time for time, _ in found] == pytest.approx([number / 10 for number in range(6)], abs=1e-3)
    for number, (_, picture) in enumerate(found):
        assert picture.shape == (3, 48, 48)
        assert (picture - frames[number, :, :48, :48]).abs().mean() < 0.03


def test_what_cannot_be_written(tmp_path) -> None:
    path = tmp_path / "a.gif"
    frames = torch.rand(2, 3, 8, 8)
    save_animation(frames, path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="set overwrite"):
        save_animation(1 - frames, path)
    assert path.read_bytes() == before
    save_animation(1 - frames, path, overwrite=True)
    assert path.read_bytes() != before
    for bad, message in ((tmp_path / "a.avi", "ends in"), (tmp_path / "b.gif", "pictures")):
        with pytest.raises(ValueError, match=message):
            save_animation(frames[:0], bad)
    with pytest.raises(ValueError, match="in a second"):
        save_animation(frames, tmp_path / "c.gif", fps=0)


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

import builtins
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kpose.video import Frame, open_frames
from kpose.video.frames import count_frames, number_frames, read_camera, read_folder, read_video


def read_all(frames: object) -> tuple[list[Frame], str]:
    """Return the frames that come, and what is said at the end."""
    found: list[Frame] = []
    try:
        for frame in frames:  # type: ignore[attr-defined]
            found.append(frame)  # noqa: PERF402 - what came before the error counts
    except ValueError as error:
        return found, str(error)
    return found, ""


def test_a_video_gives_its_frames_and_times(video_file: Callable[..., Path]) -> None:
    frames, fault = read_all(read_video(video_file()))
    assert fault == ""
    assert [frame.number for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == pytest.approx([k / 10 for k in range(12)])
    assert frames[0].image.size == (96, 64)
    assert frames[5].image.getpixel((32, 28))[0] > 150  # the bird


def test_a_truncated_video_gives_what_there_is_and_says_so(video_file: Callable[..., Path]) -> None:
    path = video_file()
    content = path.read_bytes()
    path.write_bytes(content[: int(0.7 * len(content))])
    frames, fault = read_all(read_video(path))
    assert 0 < len(frames) < 12
    assert f"{len(frames)} of 12 frames could be read" in fault
    assert fault.count("\n") == 0


def test_a_truncated_video_that_does_not_count_its_frames_says_so(video_file: Callable[..., Path]) -> None:
    path = video_file("bird.mkv", count=20)
    content = path.read_bytes()
    path.write_bytes(content[: int(0.6 * len(content))])
    frames, fault = read_all(read_video(path))
    assert 0 < len(frames) < 18
    assert re.search(r"is cut short: it ends after [01]\.\d\d of 2\.00 seconds", fault)


@pytest.mark.parametrize("name", ["bird.mkv", "bird.avi", "bird.mov", "bird.ts", "bird.mp4"])
@pytest.mark.parametrize("count", [1, 20])
def test_whole_videos_of_any_kind_are_whole(name: str, count: int, video_file: Callable[..., Path]) -> None:
    frames, fault = read_all(read_video(video_file(name, count=count)))
    assert (len(frames), fault) == (count, "")


def test_a_damaged_video_goes_on_behind_the_damage(video_file: Callable[..., Path]) -> None:
    path = video_file(count=24)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(np.random.default_rng(0).integers(0, 256, 200, dtype=np.uint8))
    path.write_bytes(content)
    frames, fault = read_all(read_video(path))
    assert 12 < len(frames) < 24
    assert frames[-1].time_s == pytest.approx(2.3)
    assert frames[-1].number == 23
    assert "damaged" in fault


def test_damage_of_h264_is_not_painted_over(video_file: Callable[..., Path]) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    if "libx264" not in av.codecs_available:
        pytest.skip("this PyAV has no libx264")
    path = video_file(count=24, codec="libx264")
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 200]) + whole[middle + 200 :]
    )
    frames, fault = read_all(read_video(path))
    assert 12 < len(frames) < 24
    assert "damaged" in fault


def test_frames_that_a_cut_hides_are_not_missed(video_file: Callable[..., Path], tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    cut = tmp_path / "cut.mp4"
    with av.open(str(video_file(count=20))) as source, av.open(str(cut), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:  # the last one is empty
                packet.pts -= int(0.55 / stream.time_base)
                packet.dts -= int(0.55 / stream.time_base)
                packet.stream = copy
                target.mux(packet)
    with av.open(str(cut)) as container:
        assert container.streams.video[0].frames == 20
    frames, fault = read_all(read_video(cut))
    assert fault == ""
    assert [frame.number for frame in frames] == list(range(14))


@pytest.mark.parametrize("name", ["bird.mp4", "bird.mkv"])
def test_frames_are_counted_where_the_source_counts_them(
    name: str, video_file: Callable[..., Path], tmp_path: Path
) -> None:
    assert count_frames(video_file(name)) == (12 if name == "bird.mp4" else None)
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (9, 9)).save(folder / f"{number}.png")
    assert count_frames(folder) == 3
    assert count_frames("camera") is None
    (tmp_path / "no.mp4").write_bytes(b"no video")
    assert count_frames(tmp_path / "no.mp4") is None


@pytest.mark.parametrize("content", [b"", b"no video", b"\x00\x00\x00\x20ftypisom" + bytes(40)])
def test_what_is_no_video_is_one_line(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    frames, fault = read_all(read_video(path))
    assert frames == []
    assert "bad.mp4" in fault
    assert fault.count("\n") == 0


def test_folders_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        Image.new("RGB", (10, 10), (number, 0, 0)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    frames, fault = read_all(read_folder(tmp_path, frame_rate=10.0))
    assert fault == ""
    assert [frame.image.getpixel((0, 0))[0] for frame in frames] == [1, 2, 10]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2])


def test_a_bad_picture_of_a_folder_is_left_out(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (10, 10)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"damaged")
    frames, fault = read_all(read_folder(tmp_path))
    assert [frame.number for frame in frames] == [0, 2]
    assert fault.startswith("1 of 3 frames")
    assert "1.png" in fault


def test_sources_are_told_apart(tmp_path: Path, video_file: Callable[..., Path]) -> None:
    Image.new("RGB", (10, 10)).save(tmp_path / "0.png")
    assert len(list(open_frames(tmp_path))) == 1
    assert len(list(open_frames(video_file()))) == 12
    with pytest.raises(FileNotFoundError, match="Check the name"):
        open_frames(tmp_path / "missing.mp4")
    (tmp_path / "0.png").unlink()
    (tmp_path / "bird.mp4").unlink()
    with pytest.raises(ValueError, match="has none"):
        next(open_frames(tmp_path))


def test_a_camera_that_is_not_there_is_one_line() -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    with pytest.raises(ValueError, match=r"camera '/dev/none' cannot be read|Cameras need"):
        next(open_frames("camera:/dev/none"))


def test_a_camera_gives_frames_from_time_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a machine with a camera."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    pictures = [
        SimpleNamespace(time=7 + k / 10, rotation=90 * k, to_image=lambda: Image.new("RGB", (8, 6)))
        for k in range(2)
    ]

    class Container:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def decode(self, video):
            return iter(pictures)

    def opened(name, format):
        assert (name, format) == ("/dev/video7", "v4l2")
        return Container()

    monkeypatch.setattr(av, "open", opened)
    monkeypatch.setattr(av, "formats_available", {"v4l2"})
    frames = list(read_camera("/dev/video7"))
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1])
    assert [frame.image.size for frame in frames] == [(8, 6), (6, 8)]  # the second was turned upright


def test_without_pyav_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "av":
            raise ModuleNotFoundError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModuleNotFoundError, match=r"kpose\[video\]"):
        next(read_video(tmp_path / "bird.mp4"))


def test_pictures_are_numbered() -> None:
    pictures = [Image.new("RGB", (9, 9)), Frame(7, 1.5, Image.new("RGB", (9, 9)))]
    assert [(frame.number, frame.time_s) for frame in number_frames(pictures)] == [(0, 0.0), (7, 1.5)]

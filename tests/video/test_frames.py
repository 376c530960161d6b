import builtins
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from video.conftest import SIZE

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
    path.write_bytes(content[: int(0.9 * len(content))])  # the first picture takes most of it
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


# Of a track header, x' = a x + c y + tx and y' = b x + d y + ty; then the colors from left to right and down.
MATRICES = {
    "none": ((1, 0, 0, 1, 0, 0), "RGBY"), "turned 90": ((0, 1, -1, 0, 64, 0), "BRYG"),
    "turned 180": ((-1, 0, 0, -1, 96, 64), "YBGR"), "turned 270": ((0, -1, 1, 0, 0, 96), "GYRB"),
    "mirrored": ((-1, 0, 0, 1, 96, 0), "GRYB"), "upside down": ((1, 0, 0, -1, 0, 64), "BYRG"),
    "transposed": ((0, 1, 1, 0, 0, 0), "RBGY"), "transversed": ((0, -1, -1, 0, 64, 96), "YGBR"),
}  # fmt: skip
QUARTERS = {"R": (220, 30, 30), "G": (30, 200, 30), "B": (30, 30, 220), "Y": (220, 220, 30)}


def quarters() -> Image.Image:
    picture = Image.new("RGB", (96, 64))
    for place, color in enumerate(QUARTERS.values()):
        left, top = 48 * (place % 2), 32 * (place // 2)
        picture.paste(color, (left, top, left + 48, top + 32))
    return picture


def seen(picture: Image.Image) -> str:
    """Return the letters of the four quarters' colors."""
    places = [(picture.width * x // 4, picture.height * y // 4) for y in (1, 3) for x in (1, 3)]
    pixels = [np.array(picture.getpixel(place), dtype=int) for place in places]
    return "".join(min(QUARTERS, key=lambda name: abs(pixel - QUARTERS[name]).sum()) for pixel in pixels)


def write_movie(path: Path, pictures: list[Image.Image], **settings: Any) -> Path:
    """Write a video, with attributes of its codec's context; ``times`` are those of the frames."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    times = settings.pop("times", [number / 10 for number in range(len(pictures))])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, options={"g": "4"})
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 1000)
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("kind", MATRICES)
def test_pictures_are_turned_and_mirrored_as_a_player_does(kind: str, tmp_path: Path) -> None:
    (a, b, c, d, x, y), expected = MATRICES[kind]
    path = write_movie(tmp_path / "bird.mp4", [quarters()])
    content = bytearray(path.read_bytes())
    at = content.find(b"tkhd") + 44
    content[at : at + 36] = struct.pack(
        ">9i", *(int(65536 * value) for value in (a, b, 0, c, d, 0, x, y)), 0x40000000
    )
    path.write_bytes(content)
    [frame], fault = read_all(read_video(path))
    assert fault == ""
    assert seen(frame.image) == expected
    assert frame.image.size == ((96, 64) if a else (64, 96))


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(16, 15), (102, 64)), (Fraction(1, 2), (48, 64)), (Fraction(99), (96, 64))]
)
@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_pixels_are_made_square(aspect: Fraction, size: tuple[int, int], ending: str, tmp_path: Path) -> None:
    path = write_movie(tmp_path / f"bird.{ending}", [quarters()], sample_aspect_ratio=aspect)
    [frame], fault = read_all(read_video(path))
    assert fault == ""
    assert frame.image.size == size
    assert seen(frame.image) == "RGBY"


def write_streams(path: Path, kinds: list[tuple[str, str, int]]) -> Path:
    """Write a picture of gray for each stream, of a codec, with a disposition and so many frames."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=10) for codec, _, _ in kinds]
        for stream, (codec, disposition, _) in zip(streams, kinds, strict=True):
            stream.width, stream.height = SIZE if codec == "mpeg4" else (48, 48)
            stream.pix_fmt = "yuv420p" if codec == "mpeg4" else "yuvj420p"
            stream.disposition = getattr(av.stream.Disposition, disposition)
        for stream, (_, _, count) in zip(streams, kinds, strict=True):
            for _ in range(count):
                container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (96, 64), "gray"))))
            container.mux(stream.encode(None))
    return path


def test_the_best_stream_is_read_and_a_cover_is_no_video(tmp_path: Path) -> None:
    two = write_streams(tmp_path / "two.mkv", [("mjpeg", "comment", 1), ("mpeg4", "default", 5)])
    covered = write_streams(tmp_path / "covered.mp4", [("mjpeg", "attached_pic", 1), ("mpeg4", "default", 5)])
    for path in (two, covered):
        frames, fault = read_all(read_video(path))
        assert ([frame.image.size for frame in frames], fault) == ([SIZE] * 5, "")
    cover = write_streams(tmp_path / "cover.mp4", [("mjpeg", "attached_pic", 1)])
    assert read_all(read_video(cover)) == ([], f"{cover} holds no video. Name another file.")
    assert count_frames(cover) is None


def write_edits(path: Path, edits: list[tuple[int, int]]) -> None:
    """Replace the edit list of an MP4 file by others: lengths in ms, and beginnings in the unit of the track."""
    content = path.read_bytes()

    def boxes(start: int, end: int) -> Iterator[tuple[int, int, str]]:
        while start < end:
            length, kind = struct.unpack_from(">I4s", content, start)
            name = kind.decode("latin-1")
            yield start, length, name
            if name in ("moov", "trak"):
                yield from boxes(start + 8, start + length)
            start += length

    found = {name: (start, length) for start, length, name in boxes(0, len(content))}
    rows = b"".join(struct.pack(">IiI", length, start, 0x10000) for length, start in edits)
    table = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(edits)) + rows
    start, length = found["edts"]
    fresh = bytearray(content[:start] + struct.pack(">I4s", 8 + len(table), b"edts") + table)
    fresh += content[start + length :]
    for name in ("moov", "trak"):
        struct.pack_into(">I", fresh, found[name][0], found[name][1] + 8 + len(table) - length)
    total = sum(length for length, _ in edits)
    struct.pack_into(">I", fresh, found["mvhd"][0] + 24, total)
    struct.pack_into(">I", fresh, found["tkhd"][0] + 28, total)
    path.write_bytes(fresh)


EVEN = [number / 10 for number in range(10)]
UNEVEN = [0, 0.04, 0.2, 0.24, 0.9, 0.94, 1.5, 1.51, 1.52, 3.0]


@pytest.mark.parametrize(
    ("times", "edits", "shown"),
    [
        (EVEN, [], range(10)),
        (EVEN, [(400, 0)], range(4)),
        (EVEN, [(400, 300)], range(3, 7)),
        (EVEN, [(300, 0), (300, 600)], [0, 1, 2, 6, 7, 8]),
        (EVEN, [(300, 600), (300, 0)], [6, 7, 8, 0, 1, 2]),
        (UNEVEN, [], range(10)),
        (UNEVEN, [(500, 0)], range(4)),
        (UNEVEN, [(3000, 62)], range(2, 10)),
    ],
)
def test_edit_lists_and_uneven_times_are_followed(
    times: list[float], edits: list[tuple[int, int]], shown: Sequence[int], tmp_path: Path
) -> None:
    pictures = [Image.new("RGB", (96, 64), (25 * number,) * 3) for number in range(10)]
    path = write_movie(tmp_path / "bird.mp4", pictures, times=times)
    if edits:
        content = path.read_bytes()
        [scale] = struct.unpack_from(">I", content, content.find(b"mdhd") + 16)
        write_edits(path, [(length, start * scale // 1000) for length, start in edits])
    frames, fault = read_all(read_video(path))
    assert fault == ""
    assert [round(frame.image.getpixel((40, 30))[0] / 25) for frame in frames] == list(shown)
    if len(edits) < 2:
        first = times[shown[0]]
        assert [frame.time_s for frame in frames] == pytest.approx([times[k] - first for k in shown], abs=2e-3)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "ts"])
def test_times_may_be_uneven(ending: str, tmp_path: Path) -> None:
    path = write_movie(tmp_path / f"bird.{ending}", [Image.new("RGB", (96, 64))] * 10, times=UNEVEN)
    frames, fault = read_all(read_video(path))
    assert fault == ""
    assert [frame.time_s for frame in frames] == pytest.approx(UNEVEN, abs=2e-3)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_video_cut_short_anywhere_says_so(share: float, ending: str, video_file: Callable[..., Path]) -> None:
    path = video_file(f"bird.{ending}", count=20)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    frames, fault = read_all(read_video(path))
    assert len(frames) < 20
    assert re.search(r"cut short|is no video that can be read", fault)


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
        SimpleNamespace(time=7 + k / 10, side_data=turned, to_image=lambda: Image.new("RGB", (8, 6)))
        for k, turned in enumerate(({}, {"DISPLAYMATRIX": struct.pack("9i", 0, 1, 0, -1, 0, 0, 6, 0, 1)}))
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

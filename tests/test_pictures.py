"""A file means the same to whatever reads it: training, prediction and video."""

import builtins
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features
from video.conftest import Reddest

from kpose._pictures import list_pictures, picture_endings, read_identities, read_mask, read_photo
from kpose.cli.networks import Networks, Targets
from kpose.data import FolderDataset, read_folder
from kpose.inference.photo import cut_square, load_mask, load_photo, photo_square
from kpose.video import OverlapTracker, open_frames, read_mask_folder

SIZE = (90, 60)
BOX = (20, 10, 70, 50)
INSIDE = np.zeros(SIZE[::-1], dtype=np.uint8)
INSIDE[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
COLORS = np.where(INSIDE[..., None] > 0, np.uint8([200, 40, 10]), np.uint8([40, 90, 160]))
GRAY = np.where(INSIDE > 0, np.uint8(200), np.uint8(60))
FORMS = [name for name, known in (("AVIF", "avif"), ("WEBP", "webp")) if features.check(known)]

ODD_PHOTOS: dict[str, tuple[Callable[[], Image.Image], str]] = {
    "16-bit png": (lambda: Image.fromarray(GRAY.astype(np.uint16) * 257), "PNG"),
    "16-bit tiff": (lambda: Image.fromarray(GRAY.astype(np.uint16) * 257), "TIFF"),
    "32-bit tiff": (lambda: Image.fromarray(GRAY.astype(np.int32) * 257), "TIFF"),
    "float tiff": (lambda: Image.fromarray(GRAY.astype(np.float32) / 255), "TIFF"),
    "float tiff that overshoots": (lambda: Image.fromarray(GRAY.astype(np.float32) / 190), "TIFF"),
    "cut out": (lambda: Image.fromarray(np.dstack([COLORS, INSIDE * 255])), "PNG"),
    "cut out in gray": (lambda: Image.fromarray(np.dstack([GRAY, INSIDE * 255])), "PNG"),
    "half transparent": (lambda: Image.fromarray(np.dstack([COLORS, INSIDE * 155 + 100])), "PNG"),
    "palette": (lambda: Image.fromarray(COLORS).quantize(8), "PNG"),
    "transparent palette": (lambda: Image.fromarray(np.dstack([COLORS, INSIDE * 255])).quantize(8), "PNG"),
    "gif": (lambda: Image.fromarray(COLORS).quantize(8), "GIF"),
    "transparent 16-bit png": (lambda: Image.fromarray(np.where(INSIDE, 51400, 0).astype(np.uint16)), "PNG"),
    "bilevel": (lambda: Image.fromarray(INSIDE > 0), "PNG"),
    "cmyk jpeg": (lambda: Image.fromarray(COLORS).convert("CMYK"), "JPEG"),
    "cmyk tiff": (lambda: Image.fromarray(COLORS).convert("CMYK"), "TIFF"),
    **{form.lower(): (lambda: Image.fromarray(COLORS), form) for form in FORMS},
}


def turned(picture: Image.Image, orientation: int) -> Image.Image:
    """Turn a picture so that EXIF's orientation undoes it."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    return picture.transpose(undo[orientation]) if orientation in undo else picture


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def write_training_folder(root: Path, name: str, photo: Image.Image, form: str, **options: object) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    photo.save(root / "images" / name, form, **options)
    Image.fromarray(INSIDE * 255).save(root / "masks" / "photo.png")
    return root / "images" / name


def training_crop(root: Path) -> np.ndarray:
    notes = read_folder(root, val_share=0.0)
    return FolderDataset(root, "train", image_size=64, annotations=notes, cache=False)[0]["image"].numpy()


def prediction_crop(photo: Path, mask: Path) -> np.ndarray:
    picture = load_photo(photo)
    size = picture.height, picture.width
    return cut_square(picture, photo_square(size, load_mask(mask, size).getbbox()), 64).numpy()


@pytest.mark.parametrize("kind", ODD_PHOTOS)
def test_training_and_prediction_see_the_same_pixels(kind: str, tmp_path: Path) -> None:
    make, form = ODD_PHOTOS[kind]
    ending = next(known for known, name in Image.registered_extensions().items() if name == form)
    options = {"transparency": 0} if kind == "transparent 16-bit png" else {}
    photo = write_training_folder(tmp_path, f"photo{ending}", make(), form, **options)
    seen = training_crop(tmp_path)
    np.testing.assert_array_equal(seen, prediction_crop(photo, tmp_path / "masks" / "photo.png"))
    [frame] = open_frames(tmp_path / "images")
    assert frame.image.tobytes() == read_photo(photo).tobytes()
    whole = np.asarray(read_photo(photo), dtype=float).mean(-1)
    inside, outside = whole[20:40, 40:50].mean(), whole[2:8, 2:15].mean()
    expected = {"bilevel": (255, 0), "half transparent": (83, 194), "float tiff that overshoots": (255, 81)}
    cut = "cut out" in kind or kind.startswith("transparent")
    bright = (200, 255 if cut else 60) if "bit" in kind or "float" in kind or "gray" in kind else (83, 97)
    assert (inside, outside) == pytest.approx(expected.get(kind, (bright[0], 255 if cut else bright[1])), abs=6)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_photo_and_mask_with_one_exif_are_turned_together(orientation: int, form: str, tmp_path: Path) -> None:
    stored = turned(Image.fromarray(COLORS), orientation)
    photo = write_training_folder(tmp_path, "photo.jpg", stored, form, exif=exif(orientation))
    mask = tmp_path / "masks" / "photo.png"
    for tagged in (False, True):  # a mask without EXIF is upright already
        drawn = Image.fromarray(INSIDE * 255)
        if tagged:
            turned(drawn, orientation).save(mask, exif=exif(orientation))
        else:
            drawn.save(mask)
        seen = training_crop(tmp_path)
        np.testing.assert_array_equal(seen, prediction_crop(photo, mask))
        np.testing.assert_array_equal(np.asarray(read_mask(mask)) > 0, INSIDE > 0)
        square = photo_square(SIZE[::-1], BOX)
        upright = cut_square(Image.fromarray(COLORS), square, 64).numpy()
        assert np.abs(seen - upright).mean() < 0.02


def test_pixels_may_be_asked_for_as_they_are_stored(tmp_path: Path) -> None:
    turned(Image.fromarray(COLORS), 6).save(tmp_path / "photo.png", exif=exif(6))
    assert read_photo(tmp_path / "photo.png", upright=False).size == SIZE[::-1]
    assert read_photo(tmp_path / "photo.png").size == SIZE


HARD = Image.fromarray(INSIDE * 255)
SOFT = HARD.resize((30, 20), Image.Resampling.BILINEAR).resize(SIZE, Image.Resampling.BILINEAR)
TWO = np.zeros(SIZE[::-1], dtype=np.uint8)
TWO[5:30, 5:40], TWO[35:55, 50:85] = 1, 2


def of_two(*colors: tuple[int, ...]) -> np.ndarray:
    """Paint background and two objects."""
    return np.array(colors, dtype=np.uint8)[TWO]


def with_palette(values: np.ndarray, *colors: tuple[int, int, int], rest: int = 0) -> Image.Image:
    picture = Image.fromarray(values)
    flat = [part for color in colors for part in color]
    picture.putpalette(flat + [rest] * (768 - len(flat)))
    return picture


def with_void(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[:3] = 255
    return values


BLACK, MAROON, GREEN, WHITE = (0, 0, 0), (128, 0, 0), (0, 128, 0), (255, 255, 255)
EDGES = Image.fromarray(of_two(BLACK, MAROON, GREEN))
ONE_OBJECT = {
    "white": (HARD, "PNG"),
    "ones": (Image.fromarray(INSIDE), "PNG"),
    "dim": (Image.fromarray(INSIDE * 128), "PNG"),
    "bilevel": (HARD.convert("1"), "PNG"),
    "soft": (SOFT, "PNG"),
    "soft and dark": (SOFT.point(lambda value: value * 100 // 255), "PNG"),
    "soft in three channels": (SOFT.convert("RGB"), "PNG"),
    "soft with an opaque alpha": (SOFT.convert("RGBA"), "PNG"),
    "soft gif": (SOFT, "GIF"),
    "soft in the web's palette": (SOFT.convert("RGB").convert("P"), "PNG"),
    "soft, 16 bits": (Image.fromarray(np.asarray(SOFT).astype(np.uint16) * 257), "PNG"),
    "soft, 16 bits by shifts": (Image.fromarray(np.asarray(SOFT).astype(np.uint16) * 256), "PNG"),
    "soft, floats": (Image.fromarray(np.asarray(SOFT).astype(np.float32) / 255), "TIFF"),
    "jpeg": (HARD, "JPEG"),
    "jpeg in color": (Image.fromarray(COLORS * INSIDE[..., None]), "JPEG"),
    "webp": (HARD, "WEBP"),
    "alpha": (Image.fromarray(np.dstack([0 * INSIDE] * 3 + [INSIDE * 255])), "PNG"),
    "soft alpha": (Image.merge("LA", (HARD, SOFT)), "PNG"),
    "one color": (Image.fromarray(INSIDE[..., None] * np.uint8([0, 0, 255])), "PNG"),
    "palette": (with_palette(INSIDE, BLACK, MAROON), "PNG"),
    "white in a palette": (with_palette(INSIDE, BLACK, WHITE), "PNG"),
    "white before black in a palette": (with_palette(1 - INSIDE, WHITE, BLACK), "PNG"),
    "transparent palette": (Image.fromarray(np.dstack([COLORS, INSIDE * 255])).quantize(8), "PNG"),
    "transparent gif": (Image.fromarray(np.dstack([COLORS, INSIDE * 255])), "GIF"),
}


@pytest.mark.parametrize("kind", ONE_OBJECT)
def test_a_mask_of_one_object_means_the_same_everywhere(kind: str, tmp_path: Path) -> None:
    picture, form = ONE_OBJECT[kind]
    ending = {"JPEG": ".jpg", "TIFF": ".tif"}.get(form, f".{form.lower()}")
    path = tmp_path / "masks" / f"photo{ending}"
    path.parent.mkdir()
    picture.save(path, form)
    found = read_identities(path) > 0
    overlap = (found & (INSIDE > 0)).sum() / (found | (INSIDE > 0)).sum()
    assert overlap > (0.93 if "soft" in kind or form in ("JPEG", "WEBP") else 0.999)
    np.testing.assert_array_equal(np.asarray(load_mask(path, SIZE[::-1])) > 0, found)  # kpose predict --mask
    (tmp_path / "images").mkdir()
    Image.fromarray(COLORS).save(tmp_path / "images" / "photo.png")
    notes = read_folder(tmp_path, val_share=0.0)  # training
    np.testing.assert_array_equal(np.asarray(notes.entries[0].open()[1]) > 0, found)
    sequence = read_mask_folder(path.parent)  # kpose video --masks
    [identity] = sequence.objects
    np.testing.assert_array_equal(sequence.masks(0)[identity].numpy(), found)
    tracker = Targets(mask=path).load_tracker(Networks(tmp_path), Reddest())  # kpose video --mask
    assert isinstance(tracker, OverlapTracker)
    assert list(tracker.targets) == [identity]
    np.testing.assert_array_equal(tracker.targets[identity].numpy(), found)


MANY_OBJECTS = {
    "palette": (with_palette(TWO, BLACK, MAROON, GREEN), {1, 2}),
    "palette with void": (with_palette(with_void(TWO), BLACK, MAROON, GREEN), {1, 2}),
    "palette in which one object is left": (with_palette(TWO // 2 * 7, *[(k, 0, 9 * k) for k in range(8)]), {7}),
    "palette with a transparent background": (with_palette(TWO, BLACK, MAROON, GREEN), {1, 2}),
    "palette without colors": (with_palette(TWO), {1, 2}),
    "palette whose black is not its first": (with_palette((TWO + 2) % 3, MAROON, GREEN, BLACK), {1, 2}),
    "gray": (Image.fromarray(TWO), {1, 2}),
    "gray with void": (Image.fromarray(with_void(TWO)), {1, 2}),
    "gray in three channels": (Image.fromarray(TWO).convert("RGB"), {1, 2}),
    "colors": (Image.fromarray(of_two(BLACK, MAROON, GREEN)), {1, 2}),
    "colors with soft edges": (EDGES.resize((30, 20), 2).resize(SIZE, 2), {1, 2}),
    "colors with an opaque alpha": (EDGES.convert("RGBA"), {1, 2}),
    "colors that no palette has": (Image.fromarray(of_two(BLACK, (1, 0, 0), (2, 0, 0))), {2**21, 2**18}),
    "16 bits": (Image.fromarray(TWO.astype(np.uint16) * 300), {300, 600}),
    "16 bits with void": (Image.fromarray(np.where(with_void(TWO) == 255, 65535, TWO).astype(np.uint16)), {1, 2}),
    "32 bits": (Image.fromarray((TWO + 26000 * (TWO > 0)).astype(np.int32)), {26001, 26002}),
    "floats": (Image.fromarray(TWO.astype(np.float32)), {1, 2}),
}


@pytest.mark.parametrize("kind", MANY_OBJECTS)
def test_masks_of_several_objects_keep_them_apart(kind: str, tmp_path: Path) -> None:
    picture, expected = MANY_OBJECTS[kind]
    path = tmp_path / ("mask.tif" if picture.mode[0] in "IF" else "mask.png")
    picture.save(path, **({"transparency": 0} if "transparent" in kind else {}))
    identities = read_identities(path)
    assert set(np.unique(identities).tolist()) == {0, *expected}
    for identity in expected:
        place = 1 if identity in (min(expected), 2**21) and len(expected) > 1 else 2
        place = {2**21: 1, 2**18: 2}.get(identity, place)
        share = ((identities == identity) & (place == TWO)).sum() / (place == TWO).sum()
        assert share > 0.9
    assert read_mask(path).getextrema() == (0, 255)


def test_void_alone_is_no_object(tmp_path: Path) -> None:
    with_palette(with_void(0 * TWO), BLACK, MAROON).save(tmp_path / "void.png")
    assert not read_identities(tmp_path / "void.png").any()
    Image.new("L", SIZE).save(tmp_path / "empty.png")
    for name in ("void.png", "empty.png"):
        with pytest.raises(ValueError, match=f"{name} has none"):
            load_mask(tmp_path / name, SIZE[::-1])
        with pytest.raises(ValueError, match=f"{name} has none"):
            Targets(mask=tmp_path / name).load_tracker(Networks(tmp_path), Reddest())
    with pytest.raises(ValueError, match="have none"):
        read_mask_folder(tmp_path)


def test_a_photo_is_no_mask_of_colors(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise.repeat(2, 0).repeat(2, 1)).save(tmp_path / "noise.png")
    with pytest.raises(ValueError, match=r"noise\.png is no mask that can be read \(a mask needs a color for each"):
        read_identities(tmp_path / "noise.png")


def test_arrays_are_masks_as_their_files_are() -> None:
    assert load_mask(TWO, SIZE[::-1]).getbbox() == (5, 5, 85, 55)
    assert load_mask(np.asarray(SOFT), SIZE[::-1]).getbbox() == BOX


def test_one_list_of_endings(tmp_path: Path) -> None:
    assert {".jpg", ".jfif", ".png", ".gif", ".tif", ".tiff", ".bmp", ".ppm", ".tga", ".jp2"} <= picture_endings()
    assert not {".pdf", ".eps", ".ps", ".mpg", ".txt", ".ico"} & picture_endings()
    assert (".avif" in picture_endings()) == bool(features.check("avif"))


def test_a_folder_is_listed_with_a_line_on_what_is_passed_over(tmp_path: Path) -> None:
    names = [
        "b10.PNG",
        "b9.png",
        "a.jp2",
        "c.gif",
        ".hidden.png",
        ".DS_Store",
        "x.cr2",
        "y.CR2",
        "notes",
        "mine.txt",
    ]
    for name in [*names, "mine.txt", "deeper/d.tif", "deeper/z.xyz"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, [line] = list_pictures(tmp_path, without=["mine.txt"])
    assert [path.name for path in found] == ["a.jp2", "b9.png", "b10.PNG", "c.gif"]
    assert line.startswith(f"{tmp_path}: passed over")
    assert line.endswith("1 without ending, 2 .cr2.")
    found, [line] = list_pictures(tmp_path, deep=True, without=["mine.txt", "notes"])
    assert [path.name for path in found] == ["a.jp2", "b9.png", "b10.PNG", "c.gif", "d.tif"]
    assert line.endswith("2 .cr2, 1 .xyz.")
    assert list_pictures(tmp_path / "deeper", without=["z.xyz"])[1] == []
    (tmp_path / "deeper" / "again").symlink_to(tmp_path)
    assert len(list_pictures(tmp_path, deep=True)[0]) == 5
    with pytest.raises(FileNotFoundError):
        list_pictures(tmp_path / "missing", deep=True)


def test_what_may_not_be_read_is_a_line_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A stand-in for file modes, which do not bind the superuser."""
    names = ["a.png", "b.png", "deeper/c.png", "d.png"]
    for name in names:
        for folder in ("images", "masks"):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLORS).save(tmp_path / "images" / name)
        Image.fromarray(INSIDE).save(tmp_path / "masks" / name)
    (tmp_path / "images" / "e.cr2").touch()
    opened, listed = builtins.open, os.scandir

    def refuse(path: Any, *args: Any, **options: Any) -> Any:
        if str(path) in (str(tmp_path / "images" / "a.png"), str(tmp_path / "masks" / "d.png")):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    def refuse_folder(path: Any) -> Any:
        if str(path) == str(tmp_path / "images" / "deeper"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(os, "scandir", refuse_folder)
    notes = read_folder(tmp_path, val_share=0.0)
    denied = "[Errno 13] Permission denied: '{}'. Change who may use it, or name another.".format
    assert notes.problems == (
        f"{tmp_path / 'images/a.png'}: it cannot be read ({denied(tmp_path / 'images/a.png')})",
        f"{tmp_path / 'images/d.png'}: its mask cannot be read ({denied(tmp_path / 'masks/d.png')})",
    )
    assert notes.splits == ("", "train", "")
    assert denied(tmp_path / "images" / "deeper") in caplog.messages
    passed = f"{tmp_path / 'images'}: passed over what has no ending of a picture that Pillow reads here: 1 .cr2."
    assert passed in caplog.messages
    frames, faults = [], ""
    try:
        frames += open_frames(tmp_path / "images")
    except ValueError as error:
        faults = str(error)
    assert faults.startswith("1 of 3 frames")
    assert "Permission denied" in faults

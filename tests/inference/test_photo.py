"""Every kind of photo file gives the right picture or one line that says what is wrong."""

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kpose.inference.photo import cut_square, load_mask, load_photo, photo_square

RED, GREEN, BLUE = (200, 30, 20), (20, 180, 40), (10, 40, 210)


def corners(size: tuple[int, int] = (40, 24)) -> Image.Image:
    """Make a picture whose four quarters tell how it is turned: red, green / blue, white."""
    width, height = size
    picture = Image.new("RGB", size, "white")
    picture.paste(RED, (0, 0, width // 2, height // 2))
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    return picture


def differs(first: Image.Image, second: Image.Image) -> float:
    assert first.size == second.size
    return float(np.abs(np.asarray(first, dtype=float) - np.asarray(second, dtype=float)).mean())


def deep(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)


KINDS: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "jpeg": ("JPEG", lambda p: p),
    "png": ("PNG", lambda p: p),
    "webp": ("WEBP", lambda p: p),
    "tiff": ("TIFF", lambda p: p),
    "bmp": ("BMP", lambda p: p),
    "gray": ("PNG", lambda p: p.convert("L")),
    "gray_alpha": ("PNG", lambda p: p.convert("LA")),
    "alpha": ("PNG", lambda p: p.convert("RGBA")),
    "bilevel": ("PNG", lambda p: p.convert("1", dither=Image.Dither.NONE)),
    "palette": ("PNG", lambda p: p.quantize(8)),
    "gif": ("GIF", lambda p: p.quantize(8)),
    "cmyk_jpeg": ("JPEG", lambda p: p.convert("CMYK")),
    "cmyk_tiff": ("TIFF", lambda p: p.convert("CMYK")),
    "ycbcr_tiff": ("TIFF", lambda p: p.convert("YCbCr")),
    "sixteen_bit_png": ("PNG", deep),
    "sixteen_bit_tiff": ("TIFF", deep),
    "float_tiff": ("TIFF", lambda p: Image.fromarray(np.asarray(p.convert("L"), dtype=np.float32) / 255)),
    "integer_tiff": ("TIFF", lambda p: Image.fromarray(np.asarray(p.convert("L")).astype(np.int32) * 257)),
}
# Uncompressed, YCbCr is what Pillow before 13 writes and cannot read.
OPTIONS = {"ycbcr_tiff": {"compression": "tiff_deflate"}}
GRAY = {"gray", "gray_alpha", "sixteen_bit_png", "sixteen_bit_tiff", "float_tiff", "integer_tiff"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_its_colors(kind: str, tmp_path: Path) -> None:
    form, convert = KINDS[kind]
    path = tmp_path / "photo"  # the content counts, not the name
    convert(corners()).save(path, form, **OPTIONS.get(kind, {}))
    photo = load_photo(path)
    assert photo.mode == "RGB"
    expected = corners().convert("L").convert("RGB") if kind in GRAY else corners()
    if kind == "bilevel":
        expected = corners().convert("1", dither=Image.Dither.NONE).convert("RGB")
    assert differs(photo, expected) < 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_photos_are_turned_upright(orientation: int, form: str, tmp_path: Path) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = corners() if orientation == 1 else corners().transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo", form, exif=exif)
    assert differs(load_photo(tmp_path / "photo"), corners()) < 6


def test_an_orientation_that_does_not_exist_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    corners().save(tmp_path / "photo", "PNG", exif=exif)
    assert differs(load_photo(tmp_path / "photo"), corners()) == 0


def test_broken_exif_does_not_cost_the_photo(tmp_path: Path) -> None:
    corners().save(tmp_path / "photo", "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x00" + b"\xff" * 40)
    assert differs(load_photo(tmp_path / "photo"), corners()) < 6


def test_transparency_is_white(tmp_path: Path) -> None:
    picture = corners().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 20, 24))
    for name, form, saved in (("a", "PNG", picture), ("b", "GIF", picture), ("c", "WEBP", picture)):
        saved.save(tmp_path / name, form)
        assert load_photo(tmp_path / name).getpixel((5, 5)) == pytest.approx((255, 255, 255), abs=2)
    palette = corners().quantize(4)
    palette.save(tmp_path / "d", "PNG", transparency=palette.getpixel((0, 0)))
    assert load_photo(tmp_path / "d").getpixel((5, 5)) == (255, 255, 255)
    assert load_photo(tmp_path / "d").getpixel((30, 5)) == pytest.approx(GREEN, abs=3)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(form: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 32), "black") for _ in range(2)]
    corners((32, 32)).save(tmp_path / "photo", form, save_all=True, append_images=frames)
    assert differs(load_photo(tmp_path / "photo"), corners((32, 32))) < 6


def encoded(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(buffer, form, **options)
    return buffer.getvalue()


def refused(path: Path) -> str:
    with pytest.raises((OSError, ValueError)) as caught:
        load_photo(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_a_file_cut_short_is_refused(form: str, share: float, tmp_path: Path) -> None:
    data = encoded(form)
    (tmp_path / "photo").write_bytes(data[: int(len(data) * share)])
    refused(tmp_path / "photo")


def test_empty_missing_folder_and_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("I am a bird")
    for name in ("empty.jpg", "text.jpg"):
        assert "is no photo that can be read (cannot identify image file" in refused(tmp_path / name)
    assert "is a folder" in refused(tmp_path)
    assert "No such file" in refused(tmp_path / "missing.jpg")


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_tiny_photos_are_refused(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size).save(tmp_path / "photo", "PNG")
    assert f"has {size[0]} x {size[1]}" in refused(tmp_path / "photo")


def test_the_smallest_photo_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "photo", "PNG")
    assert load_photo(tmp_path / "photo").size == (8, 8)


def test_huge_photos_are_refused_before_they_are_decoded(huge_png: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(huge_png)
    assert "too large (Image size (3600000000 pixels) exceeds" in refused(tmp_path / "photo")


def test_large_photos_are_read_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corners((400, 300)).save(tmp_path / "photo", "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # Pillow warns from here on, and refuses twice as many
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_photo(tmp_path / "photo").size == (400, 300)
    corners((600, 400)).save(tmp_path / "photo", "PNG")
    assert "Scale it down" in refused(tmp_path / "photo")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_random_damage_never_raises_anything_else(form: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    data = np.frombuffer(encoded(form), dtype=np.uint8)
    path = tmp_path / "photo"
    for _ in range(40):
        damaged = data.copy()
        places = random.integers(0, min(len(data), 400), 12)  # headers break decoders, pixels do not
        damaged[places] = random.integers(0, 256, 12)
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(OSError, ValueError):
            assert load_photo(path).mode == "RGB"


def test_arrays_are_photos_and_masks() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(load_photo(pixels)), pixels)
    mask = pixels[..., 0] > 99
    assert np.array_equal(np.asarray(load_mask(mask, (12, 20))) > 0, mask)
    for wrong in (pixels[..., 0], pixels / 255, np.moveaxis(pixels, 2, 0)):
        with pytest.raises(ValueError, match=r"needs uint8 \(H, W, 3\).*got"):
            load_photo(wrong)


def test_tensors_and_pictures_are_photos() -> None:
    assert load_photo(torch.zeros(3, 10, 20)).size == (20, 10)
    assert load_photo(Image.new("CMYK", (20, 10))).mode == "RGB"
    with pytest.raises(ValueError, match=r"float tensor \(3, H, W\)"):
        load_photo(torch.zeros(1, 10, 20))
    with pytest.raises(ValueError, match=r"float tensor \(3, H, W\)"):
        load_photo(torch.zeros(3, 10, 20, dtype=torch.uint8))


MASK = np.zeros((24, 40), dtype=np.uint8)
MASK[5:15, 8:30] = 1


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(MASK),
        Image.fromarray(MASK * 255),
        Image.fromarray(MASK * 255).convert("1"),
        Image.fromarray(MASK * 255).convert("LA"),
        Image.fromarray(MASK * 255).convert("RGBA"),
        Image.fromarray(MASK.astype(np.uint16) * 65535),
        Image.fromarray(MASK.astype(np.float32)),
    ],
    ids=["zero_one", "eight_bits", "bilevel", "gray_alpha", "alpha", "sixteen_bits", "float"],
)
def test_masks_of_all_kinds_give_the_same_box(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "mask", "TIFF")
    mask = load_mask(tmp_path / "mask", (24, 40))
    assert mask.getbbox() == (8, 5, 30, 15)
    assert np.asarray(mask).tolist() == (MASK * 255).tolist()


def test_a_palette_mask_holds_all_its_objects(tmp_path: Path) -> None:
    palette = Image.fromarray(MASK)
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 64, 0])
    palette.paste(2, (0, 0, 3, 3))
    palette.save(tmp_path / "mask", "PNG")
    assert load_mask(tmp_path / "mask", (24, 40)).getbbox() == (0, 0, 30, 15)


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    Image.fromarray(MASK).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"24 x 40 pixels \(upright\); .*mask.png has 40 x 24"):
        load_mask(tmp_path / "mask.png", (40, 24))
    with pytest.raises(ValueError, match="has none"):
        load_mask(Image.new("L", (40, 24)), (24, 40))
    with pytest.raises(ValueError, match="has none"):
        load_mask(torch.full((24, 40), torch.nan), (24, 40))
    with pytest.raises(ValueError, match=r"shape \(H, W\)"):
        load_mask(torch.zeros(1, 24, 40), (24, 40))


def test_the_square_is_padded_as_in_training() -> None:
    # Five per cent of the longer side, 60, on each side; squared about the center.
    assert photo_square((100, 100), (20, 30, 80, 50)) == pytest.approx((17, 7, 83, 73))
    assert photo_square((100, 200)) == (0, -50, 200, 150)
    assert photo_square((100, 200), torch.tensor([20.0, 30.0, 80.0, 50.0])) == pytest.approx((17, 7, 83, 73))


def test_what_lies_outside_the_photo_is_cut_off_the_box() -> None:
    assert photo_square((100, 100), (-500, -20, 60, 40)) == photo_square((100, 100), (0, 0, 60, 40))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10, 10, 10, 20), "X0 < X1"),
        ((30, 10, 10, 20), "X0 < X1"),
        ((10, 10, 20, float("nan")), "four finite numbers"),
        ((10, 10, 20, float("inf")), "four finite numbers"),
        ((10, 10, 20), "four finite numbers"),
        ((100, 0, 120, 50), "at least one pixel of the photo"),
        ((-20, -20, -1, -1), "at least one pixel of the photo"),
        ((10, 10, 10.2, 20), "at least one pixel of the photo"),
    ],
)
def test_bad_boxes_are_refused(box: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        photo_square((50, 100), box)


def test_a_long_thin_photo_fits_the_memory() -> None:
    photo = Image.new("RGB", (60_000, 8), RED)
    crop = cut_square(photo, photo_square((8, 60_000)), 64)
    assert crop.shape == (3, 64, 64)
    assert crop[1, :20].min() == 1

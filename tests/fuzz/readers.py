"""Every reader of files from outside, with good files to damage."""

import io
import itertools
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
import yaml
from fakes import write_fake_cub
from fuzz.mutations import damage, distort
from jsonargparse import ArgumentError
from PIL import Image
from safetensors.torch import save

from kpose._checkpoint import CONFIG_FILE
from kpose.cli.pipeline import parse_pipeline
from kpose.data import read_identities, read_youtube_vos
from kpose.data.coco import read_coco
from kpose.data.cub import read_cub
from kpose.data.folder_files import FolderEntry
from kpose.inference import Predictor
from kpose.inference.photo import load_mask, load_photo
from kpose.reconstruction import CameraTable
from kpose.templates import load_template
from kpose.video.frames import read_video

Make = Callable[[random.Random], bytes]


@dataclass(frozen=True)
class Reader:
    """A reader, and damaged files for it."""

    read: Callable[[Path], object]
    """Reads a file."""
    make: dict[str, Make]
    """Ending of a file: how to make a damaged one."""
    errors: tuple[type[Exception], ...] = (ValueError, FileNotFoundError)
    """What the reader says that it raises."""


def _damaged(files: list[bytes]) -> Make:
    return lambda draw: damage(draw.choice(files), files, draw)


def _contents(good: list[Any], write: Callable[[Any], bytes]) -> Make:
    """Damage the bytes of contents, or write other contents."""
    files = [write(content) for content in good]

    def make(draw: random.Random) -> bytes:
        at = draw.randrange(len(good))
        if draw.random() < 0.5:
            return damage(files[at], files, draw)
        changed = good[at]
        for _ in range(draw.choice((0, 1, 1, 3))):  # what is not changed must be read
            changed = distort(changed, draw)
        return write(changed)

    return make


def _write_json(content: Any) -> bytes:
    return json.dumps(content, indent=1).encode()


# ---- configurations

CONFIGURATIONS = sorted((Path(__file__).parents[2] / "examples" / "configs" / "pipeline").glob("*.yaml"))


def _configurations() -> Make:
    """Damage configurations, but for nesting without end: YAML's own parser in C overflows the stack there."""
    make = _contents([yaml.safe_load(path.read_bytes()) for path in CONFIGURATIONS], _write_yaml)

    def shallow(draw: random.Random) -> bytes:
        while any(sign * 1000 in (content := make(draw)) for sign in (b"[", b'{"a":', b"(")):
            pass
        return content

    return shallow


def _write_yaml(settings: Any) -> bytes:
    return yaml.safe_dump(settings).encode("utf-8", "replace")


def _read_configuration(path: Path) -> object:
    return parse_pipeline(["--config", str(path), "--out", "out"])


# ---- pictures

SIZE = (24, 20)
FORMS = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif", "WEBP": ".webp"}


def _picture_files(form: str, *, mask: bool) -> list[bytes]:
    draw = np.random.default_rng(0)
    if mask:
        values = np.zeros(SIZE[::-1], dtype=np.uint8)
        values[4:15, 5:20] = 255
        pictures = [Image.fromarray(values).convert(mode) for mode in ("L", "RGB", "1")]
    else:
        pictures = [Image.fromarray(draw.integers(0, 255, (*SIZE[::-1], 3), dtype=np.uint8))]
    if form in ("PNG", "TIFF"):
        pictures += [picture.convert("RGBA") for picture in pictures[:1]] + [pictures[0].convert("P")]
        pictures.append(Image.fromarray(draw.integers(0, 2**16, SIZE[::-1], dtype=np.uint16)))
    files = []
    for picture in pictures:
        for options in _picture_options(form):
            file = io.BytesIO()
            picture.save(file, form, **options)
            files.append(file.getvalue())
    return files


def _picture_options(form: str) -> list[dict[str, Any]]:
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {
        "JPEG": [{"exif": exif}, {"progressive": True}],
        "PNG": [{"exif": exif}],
        "TIFF": [{"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}],
        "WEBP": [{"lossless": True, "exif": exif}],
    }
    return [{}, *more.get(form, [])]


def _pictures(*, mask: bool) -> dict[str, Make]:
    return {ending: _damaged(_picture_files(form, mask=mask)) for form, ending in FORMS.items()}


def _identity_files() -> list[bytes]:
    """Write masks of a video as DAVIS, YouTube-VOS and other programs do."""
    values = np.zeros(SIZE[::-1], dtype=np.uint8)
    values[4:15, 5:12], values[4:15, 12:20], values[0] = 1, 2, 255
    painted = Image.fromarray(values)
    painted.putpalette([part for k in range(256) for part in (k, 255 - k, 7 * k % 256)])
    masked = Image.fromarray(np.where(values > 0, np.uint8(255), np.uint8(0)))
    pictures = [painted, Image.fromarray(values), Image.fromarray(values.astype(np.uint16) * 257)]
    pictures += [masked.convert(mode) for mode in ("L", "1", "RGB", "RGBA", "LA")]
    files = []
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, "PNG")
        files.append(file.getvalue())
    return files


def _identities() -> Make:
    """Damage masks, half of them with checksums to suit, so that the damage is not noticed at once."""
    files = _identity_files()

    def make(draw: random.Random) -> bytes:
        content = damage(draw.choice(files), files, draw)
        return _with_checksums(content) if draw.random() < 0.5 else content

    return make


def _with_checksums(png: bytes) -> bytes:
    at, fixed = 8, png[:8]
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        fixed += png[at:end] + zlib.crc32(png[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return fixed + png[at:]


def _read_identities(path: Path) -> object:
    identities = read_identities(path)
    assert identities.dtype == np.int32
    assert identities.ndim == 2
    assert identities.min(initial=0) >= 0
    return identities


def _check_entry(path: Path) -> object:
    """Do what `read_folder` does with an image and its mask; whatever is wrong becomes a line."""
    entry = FolderEntry("x", path.with_name("photo.png"), path)
    if not entry.file.exists():
        Image.new("RGB", SIZE).save(entry.file)
    box, fault = entry.check()
    assert (box is None) == bool(fault)
    assert "\n" not in fault
    return entry.check()


# ---- COCO

COCO = {
    "images": [
        {"id": 1, "file_name": "a/b.jpg", "height": 20, "width": 24},
        {"id": 2, "file_name": "c.jpg", "height": 9, "width": 9},
    ],
    "categories": [{"id": 7, "name": "bird"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 7, "iscrowd": 0,
         "segmentation": [[1, 2, 9.5, 3, 8, 17], [12, 1, 20, 2, 19, 9, 13, 8]]},
        {"id": 2, "image_id": 1, "category_id": 7, "segmentation": {"size": [20, 24], "counts": [100, 280, 100]}},
        {"id": 3, "image_id": 2, "category_id": 7, "segmentation": {"size": [9, 9], "counts": "94k1"}},
    ],
}  # fmt: skip


def _read_coco(path: Path) -> object:
    objects, faults = read_coco(path)
    assert all(fault.isprintable() for fault in faults)
    return [thing.mask().shape for thing in objects]


# ---- tables of tensors


def _tensors(good: dict[str, torch.Tensor], metadata: dict[str, str]) -> Make:
    """Damage a safetensors file, or write one that is sound and holds something else."""
    file = save(good, metadata)

    def make(draw: random.Random) -> bytes:
        if draw.random() < 0.4:
            return damage(file, [file], draw)
        tensors, notes = dict(good), dict(metadata)
        for _ in range(draw.choice((1, 1, 2))):
            name = draw.choice(sorted(good))
            tensors[name] = _other_tensor(tensors.get(name, good[name]), draw)
            if draw.random() < 0.1:
                del tensors[name]
            if draw.random() < 0.2:
                key = draw.choice(sorted(notes))
                text = notes[key].encode()
                notes[key] = damage(text, [text], draw)[:10_000].decode("utf-8", "replace")
        return save({name: tensor.contiguous() for name, tensor in tensors.items()}, notes)

    return make


def _other_tensor(tensor: torch.Tensor, draw: random.Random) -> torch.Tensor:
    kind = draw.randrange(7)
    if kind == 0:
        return tensor[: draw.randrange(len(tensor) + 1)] if tensor.ndim else tensor[None]
    if kind == 1:
        return tensor.flatten()
    if kind == 2:
        return tensor.to(draw.choice((torch.float16, torch.int64, torch.bool, torch.float64, torch.uint8)))
    if kind == 3:
        return tensor[..., None]
    if kind == 4:
        return tensor.new_zeros(())
    changed = tensor.clone().flatten()
    if len(changed):
        value = (
            draw.choice((0, 1, -1, 2**31, -(2**62)))
            if not changed.is_floating_point()
            else draw.choice((0.0, 1e38, float("nan"), float("-inf")))
        )
        changed[draw.randrange(len(changed))] = bool(value) if changed.dtype == torch.bool else value
    return changed.reshape(tensor.shape)


def _cameras() -> Make:
    table = CameraTable(torch.arange(3), names=("a", "b", "c"))
    cameras = table.num_cameras
    tensors = {
        **table.cameras()._asdict(),
        "score": torch.rand(3, cameras, generator=torch.Generator().manual_seed(0)),
        "order": torch.arange(cameras).repeat(3, 1),
        "crop_scale": torch.ones(3),
        "crop_translation": torch.zeros(3, 2),
    }
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    return _tensors(tensors, {"format": "2", "names": json.dumps(["a", "b", "c"])})


def _load_cameras(path: Path) -> object:
    table = CameraTable(torch.arange(3), names=("a", "b", "c"))
    table.load(path)
    assert table.cameras().rotation.shape == (*table.score.shape, 3, 3)
    return table.best()


# ---- templates


def _templates(folder: Path) -> dict[str, Make]:
    mesh = trimesh.creation.icosphere(subdivisions=1)
    mesh.visual = trimesh.visual.TextureVisuals(uv=np.full((len(mesh.vertices), 2), 0.5))
    made: dict[str, Make] = {}
    for ending in (".glb", ".obj", ".off", ".ply", ".stl"):
        mesh.export(folder / f"good{ending}")
        made[ending] = _damaged([(folder / f"good{ending}").read_bytes()])
    small = load_template(folder / "good.obj", {"beak": (0.0, -1.0, 0.0)})
    tensors = {name: value for name, value in small._asdict().items() if isinstance(value, torch.Tensor)}
    made[".safetensors"] = _tensors(
        tensors, {"format": "kpose.template", "part_names": json.dumps(small.part_names)}
    )
    return made


# ---- checkpoints


def checkpoint_contents() -> dict[str, Any]:
    """Return what `kpose fit` writes, of a small untrained task."""
    from kpose.backbones import TinyBackbone
    from kpose.heads import QuaternionHead
    from kpose.tasks import PoseEstimator

    torch.manual_seed(0)
    task = PoseEstimator(
        TinyBackbone(width=2), lambda spec, template: QuaternionHead(spec, template, width=2, grid=1)
    )
    task.network.image_size = 32
    return {
        "state_dict": dict(task.state_dict()),
        "hyper_parameters": {"feature_dropout": 0.0},
        "pytorch-lightning_version": "2.6.0",
        "recipe": task.network.recipe(),
    }


def _write_checkpoint(contents: Any) -> bytes:
    file = io.BytesIO()
    torch.save(contents, file)
    return file.getvalue()


# ---- CUB's text files


def _read_cub(path: Path) -> object:
    """Put the file in the place of each of the text files in turn."""
    root = path.with_name("cub")
    if not root.exists():
        write_fake_cub(root, 4, pictures=False)
    name = CUB_FILES[path.stat().st_size % len(CUB_FILES)]
    before = (root / name).read_bytes()
    try:
        (root / name).write_bytes(path.read_bytes())
        return read_cub(root)
    finally:
        (root / name).write_bytes(before)


CUB_FILES = (
    "images.txt",
    "bounding_boxes.txt",
    "parts/parts.txt",
    "parts/part_locs.txt",
    "train_test_split.txt",
    "sfm/cameras.csv",
)


def _cub(folder: Path) -> Make:
    write_fake_cub(folder / "good_cub", 4, pictures=False)
    files = {name: (folder / "good_cub" / name).read_bytes() for name in CUB_FILES}

    def make(draw: random.Random) -> bytes:
        at = draw.randrange(len(CUB_FILES))
        content = damage(files[CUB_FILES[at]], list(files.values()), draw)
        # The reader tells by the length which file it is; trailing blank lines change nothing.
        return content + b"\n" * ((at - len(content)) % len(CUB_FILES))

    return make


# ---- folders of networks


def _networks(folder: Path) -> tuple[Callable[[Path], object], Make]:
    """Damage the description in a folder of `Predictor.save_pretrained`."""
    (folder / "good.ckpt").write_bytes(_write_checkpoint(checkpoint_contents()))
    Predictor.from_checkpoint(folder / "good.ckpt").save_pretrained(folder / "network")
    good = (folder / "network" / CONFIG_FILE).read_bytes()

    def read(path: Path) -> object:
        (folder / "network" / CONFIG_FILE).write_bytes(path.read_bytes())
        return Predictor.from_pretrained(folder / "network")

    return read, _contents([json.loads(good)], _write_json)


# ---- video data sets


def _read_youtube_vos(path: Path) -> object:
    root = path.with_name("vos")
    for video in ("a", "b"):
        for kind in ("JPEGImages", "Annotations"):
            frames = root / "train" / kind / video
            frames.mkdir(parents=True, exist_ok=True)
            (frames / f"00000{'.jpg' if kind == 'JPEGImages' else '.png'}").touch()
    (root / "train" / "meta.json").write_bytes(path.read_bytes())
    return read_youtube_vos(root)


YOUTUBE_VOS = {
    "videos": {
        "a": {"objects": {"1": {"category": "duck", "frames": ["00000"]}, "2": {"category": "person"}}},
        "b": {"objects": {"1": {"category": "parrot", "frames": ["00000"]}}},
    }
}


# ---- videos


VIDEOS = ((".mp4", "mpeg4"), (".mkv", "mpeg4"), (".avi", "mjpeg"), (".gif", "gif"))
H264 = ((".mp4", "libx264"), (".mkv", "libx264"), (".avi", "libx264"))


def _videos(folder: Path, kinds: tuple[tuple[str, str], ...]) -> dict[str, Make]:
    """Return nothing for what the installed PyAV, if there is one, cannot write."""
    try:
        import av
    except ImportError:
        return {}
    made = {}
    for ending, codec in kinds:
        if codec not in av.codecs_available:
            continue
        path = folder / f"{codec}{ending}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=10, options={"g": "3"} if codec == "libx264" else {})
            stream.width, stream.height = SIZE
            stream.pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
            for number in range(6):
                picture = Image.new("RGB", SIZE, (40 * number, 99, 200))
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode(None))
        made[ending] = _damaged([path.read_bytes()])
    return made


def _read_video(path: Path) -> object:
    # A header can announce millions of frames, and some formats repeat one as often: what comes first is enough.
    return sum(frame.image.width for frame in itertools.islice(read_video(path), 50))


def readers(folder: Path) -> dict[str, Reader]:
    """Return the readers by name.

    Args:
        folder: Where good files may be written.
    """
    read_network, network = _networks(folder)
    return {
        "photo": Reader(load_photo, _pictures(mask=False)),
        "mask": Reader(lambda path: load_mask(path, SIZE[::-1]), _pictures(mask=True)),
        "identities": Reader(_read_identities, {".png": _identities()}, errors=(ValueError,)),
        "folder": Reader(_check_entry, _pictures(mask=True), errors=()),
        "coco": Reader(_read_coco, {".json": _contents([COCO], _write_json)}),
        "cameras": Reader(_load_cameras, {".safetensors": _cameras()}),
        "template": Reader(load_template, _templates(folder)),
        "cub": Reader(_read_cub, {".txt": _cub(folder)}),
        "configuration": Reader(
            _read_configuration, {".yaml": _configurations()}, errors=(ArgumentError, TypeError, ValueError)
        ),
        "checkpoint": Reader(
            Predictor.from_checkpoint, {".ckpt": _contents([checkpoint_contents()], _write_checkpoint)}
        ),
        "network": Reader(read_network, {".json": network}),
        "youtube_vos": Reader(_read_youtube_vos, {".json": _contents([YOUTUBE_VOS], _write_json)}),
        "video": Reader(_read_video, _videos(folder, VIDEOS)),
        "h264": Reader(_read_video, _videos(folder, H264)),
    }

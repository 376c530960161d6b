"""Time inference: photos to cameras and meshes by the network that comes with kpose, and the solver's share of it.

The first table is `Predictor` on a batch of photos: reading the files, finding the bird, cutting the crop,
network, solver, and mesh with texture. The second is one call on a batch of crops. Two threads, the fastest of
several runs; with ``--threads 1`` seconds of the processor are counted, which other programs matter less to.
Without ``--root`` photos are rendered, and crops noise. Without ``--checkpoint`` the second network is a ResNet-50
with a keypoint head as on photographs, untrained: for many images its best keypoints agree on no camera, and the
solver runs twice on these, so a trained head takes less. The profile counts the solver's calls of torch's
operators on keypoints that a camera explains, for as many images as crops and for an eighth of them: each needs
one pass, so that the counts show whether there is a loop over images. The last line is one JSON object.

    python benchmarks/inference.py
    python benchmarks/inference.py --checkpoint keypoint.ckpt --root $KPOSE_CUB_ROOT
    python benchmarks/inference.py --photos-only --root $KPOSE_CUB_ROOT --threads 1
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import kpose
from kpose.backbones import TransformersBackbone
from kpose.data import CUBDataModule, CUBDataset, SyntheticBirdsDataset
from kpose.geometry import project, random_rotation
from kpose.heads import KeypointHead
from kpose.inference import Predictor
from kpose.inference import predictor as predictor_module
from kpose.network import PoseNetwork
from kpose.structures import Camera
from kpose.visualization import to_pillow

PARTS = ("backbone", "head.network", "head.confidence", "head.solver")
SECONDS = 20.0
RENDERED = 8


def clock() -> float:
    """Return seconds: of the processor with one thread, so that other programs matter less, or else of the wall."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def untrained() -> PoseNetwork:
    """Return the network that photographs are learned with, without its weights."""
    torch.manual_seed(0)
    backbone = TransformersBackbone("resnet", (3, 4), pretrained=False, config={"model_type": "resnet"})
    return PoseNetwork(backbone, lambda spec, template: KeypointHead(spec, template, width=128)).eval()


def photo_files(root: Path | None, count: int, folder: Path) -> list[Path]:
    """Return photographs of CUB's validation split, or render some into a folder; few are repeated."""
    if root is not None:
        files = CUBDataset(root, "val").image_files
    else:
        birds = SyntheticBirdsDataset(RENDERED, 512)
        files = [folder / f"{number}.jpg" for number in range(RENDERED)]
        for number, file in enumerate(files):
            to_pillow(birds[number]["image"]).save(file)
    return [files[number % len(files)] for number in range(count)]


@contextmanager
def timed_steps(predictor: Predictor) -> Iterator[dict[str, float]]:
    """Add up the seconds that the steps of a predictor take."""
    network: Any = predictor.network
    steps: list[tuple[str, Any, str]] = [
        ("decode", predictor_module, "load_photo"),
        ("find", predictor_module, "find_objects"),
        ("crop", predictor_module, "cut_square"),
        *(
            ("network", part, "forward")
            for part in (network.backbone, network.head.network, network.head.confidence)
        ),
        ("solver", network.head.solver, "forward"),
        ("mesh", network.reconstructor, "forward"),
        ("mesh", predictor, "_meshes"),
    ]
    seconds = dict.fromkeys((name for name, *_ in steps), 0.0)

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def measure(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever the step takes and returns
            start = clock()
            result = call(*args, **options)
            seconds[name] += clock() - start
            return result

        return measure

    with ExitStack() as stack:
        for name, owner, attribute in steps:
            stack.enter_context(patch.object(owner, attribute, timed(name, getattr(owner, attribute))))
        yield seconds


def fastest_photos(predictor: Predictor, files: list[Path]) -> tuple[float, dict[str, float]]:
    """Return seconds of the fastest of the runs that fit into some seconds, in all and of each step."""
    predictor(files)
    best, parts, runs, begin = math.inf, dict[str, float](), 0, time.perf_counter()
    while runs < 3 or time.perf_counter() - begin < SECONDS:
        with timed_steps(predictor) as seconds:
            start = clock()
            predictor(files)
            whole = clock() - start
        runs += 1
        if whole < best:
            best, parts = whole, seconds
    return best, parts


def photographs(root: Path, crops: int, size: int) -> Tensor:
    """Return crops of CUB's validation photographs."""
    data = CUBDataModule(root, image_size=size, batch_size=crops, test_split="val")
    data.setup("test")
    images: Tensor = next(iter(data.test_dataloader()))["image"]
    return images


class Stopwatch:
    """Add up the time that modules take.

    Args:
        network: Network that holds them.
        names: Their names.
    """

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        self.seconds = dict.fromkeys(names, 0.0)
        self._started: dict[str, float] = {}
        modules = dict(network.named_modules())
        for name in names:
            if name in modules:
                modules[name].register_forward_pre_hook(self._starter(name))
                modules[name].register_forward_hook(self._stopper(name))

    def _starter(self, name: str) -> Callable[..., None]:
        def start(*_: Any) -> None:  # noqa: ANN401 - torch's hooks
            self._started[name] = clock()

        return start

    def _stopper(self, name: str) -> Callable[..., None]:
        def stop(*_: Any) -> None:  # noqa: ANN401 - torch's hooks
            self.seconds[name] += clock() - self._started[name]

        return stop


@torch.no_grad()
def fastest(network: PoseNetwork, images: Tensor) -> tuple[float, dict[str, float]]:
    """Return seconds of the fastest of the runs that fit into some seconds, in all and of each part."""
    watch = Stopwatch(network, PARTS)
    network(images)
    best, parts, runs, begin = math.inf, dict[str, float](), 0, time.perf_counter()
    while runs < 3 or time.perf_counter() - begin < SECONDS:
        watch.seconds = dict.fromkeys(PARTS, 0.0)
        start = clock()
        network(images)
        whole = clock() - start
        runs += 1
        if whole < best:
            best, parts = whole, dict(watch.seconds)
    return best, parts


@torch.no_grad()
def operators(head: KeypointHead, images: int) -> tuple[int, str]:
    """Count the calls of operators in the solver for some images, and list those that take longest."""
    generator = torch.Generator().manual_seed(0)
    points = head.template_vertices[head.keypoint_indices].expand(images, -1, -1)
    rotation = random_rotation((images,), generator=generator)
    camera = Camera(torch.full((images,), 0.7), torch.zeros(images, 2), rotation)
    keypoints = project(points, camera) + 0.02 * torch.randn(*points.shape[:2], 2, generator=generator)
    confidence = torch.rand(points.shape[:2], generator=generator)
    with profile(activities=[ProfilerActivity.CPU]) as record:
        head.solver(keypoints, points, confidence)
    averages = record.key_averages()
    table: str = averages.table(sort_by="self_cpu_time_total", row_limit=8, max_name_column_width=32)
    return sum(entry.count for entry in averages if entry.key.startswith("aten::")), table


def time_photos(root: Path | None, count: int, threads: int) -> dict[str, float]:
    """Print the table of photos, and return its figures."""
    predictor = kpose.load("bird", batch_size=count)
    with TemporaryDirectory() as folder:
        whole, parts = fastest_photos(predictor, photo_files(root, count, Path(folder)))
    print(f"{f'{count} photos, {threads} threads':<40}{'ms each':>10}{'share':>8}")
    for name, seconds in {**parts, "all else": whole - sum(parts.values()), "in all": whole}.items():
        print(f"{name:<40}{1e3 * seconds / count:>10.1f}{seconds / whole:>8.1%}")
    print(f"{count / whole:.1f} photos a second\n")
    return {"photos_per_s": round(count / whole, 1)}


def main() -> None:
    """Print the parts, the profile and the JSON line."""
    parser = argparse.ArgumentParser(description="Time keypoint inference and its solver.")
    parser.add_argument("--checkpoint", type=Path, help="of a keypoint head; an untrained one when not given")
    parser.add_argument("--root", type=Path, help="photographs in CUB's layout; noise when not given")
    parser.add_argument("--photos-only", action="store_true", help="leave out the second table")
    parser.add_argument("--crops", type=int, default=64, help="crops, and photos")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    photos = time_photos(options.root, options.crops, options.threads)
    if options.photos_only:
        print(json.dumps(photos))
        return
    network = untrained() if options.checkpoint is None else Predictor.from_checkpoint(options.checkpoint).network
    size, crops = options.image_size, options.crops
    images = torch.rand(crops, 3, size, size) if options.root is None else photographs(options.root, crops, size)
    with torch.no_grad():
        valid = network(images).valid
    whole, parts = fastest(network, images)
    print(f"{f'{crops} crops of {size} px, {options.threads} threads':<40}{'ms':>10}{'share':>8}")
    for name, seconds in {**parts, "all else": whole - sum(parts.values()), "in all": whole}.items():
        print(f"{name:<40}{1e3 * seconds:>10.1f}{seconds / whole:>8.1%}")
    head: Any = network.head
    operators(head, crops)  # work of the first call alone is not counted
    calls, table = operators(head, crops)
    few, _ = operators(head, max(crops // 8, 1))
    print(f"\noperators called by the solver for {crops} images: {calls}, for {max(crops // 8, 1)}: {few}\n{table}")
    result = {
        **photos,
        "total_ms": round(1e3 * whole, 1),
        "pnp_ms": round(1e3 * parts["head.solver"], 1),
        "pnp_share": round(parts["head.solver"] / whole, 4),
        "operators_all": calls,
        "operators_eighth": few,
        "solved": round(float(valid.float().mean()), 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

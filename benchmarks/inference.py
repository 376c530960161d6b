"""Time keypoint inference, photo crops to cameras, and the share of it that the solver takes.

One call on a batch of crops, two threads, the fastest of several runs. Without ``--checkpoint`` the network is a
ResNet-50 with a keypoint head as on photographs, untrained: for many images its best keypoints agree on no camera,
and the solver runs twice on these, so a trained head takes less. The profile counts the solver's calls of torch's
operators on keypoints that a camera explains, for as many images as crops and for an eighth of them: each needs one
pass, so that the counts show whether there is a loop over images. The last line is one JSON object.

    python benchmarks/inference.py
    python benchmarks/inference.py --checkpoint keypoint.ckpt --root $KPOSE_CUB_ROOT
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from kpose.backbones import TransformersBackbone
from kpose.data import CUBDataModule
from kpose.geometry import project, random_rotation
from kpose.heads import KeypointHead
from kpose.inference import Predictor
from kpose.network import PoseNetwork
from kpose.structures import Camera

PARTS = ("backbone", "head.network", "head.confidence", "head.solver")
SECONDS = 20.0


def untrained() -> PoseNetwork:
    """Return the network that photographs are learned with, without its weights."""
    torch.manual_seed(0)
    backbone = TransformersBackbone("resnet", (3, 4), pretrained=False, config={"model_type": "resnet"})
    return PoseNetwork(backbone, lambda spec, template: KeypointHead(spec, template, width=128)).eval()


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
            self._started[name] = time.perf_counter()

        return start

    def _stopper(self, name: str) -> Callable[..., None]:
        def stop(*_: Any) -> None:  # noqa: ANN401 - torch's hooks
            self.seconds[name] += time.perf_counter() - self._started[name]

        return stop


@torch.no_grad()
def fastest(network: PoseNetwork, images: Tensor) -> tuple[float, dict[str, float]]:
    """Return seconds of the fastest of the runs that fit into some seconds, in all and of each part."""
    watch = Stopwatch(network, PARTS)
    network(images)
    best, parts, runs, begin = math.inf, dict[str, float](), 0, time.perf_counter()
    while runs < 3 or time.perf_counter() - begin < SECONDS:
        watch.seconds = dict.fromkeys(PARTS, 0.0)
        start = time.perf_counter()
        network(images)
        whole = time.perf_counter() - start
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


def main() -> None:
    """Print the parts, the profile and the JSON line."""
    parser = argparse.ArgumentParser(description="Time keypoint inference and its solver.")
    parser.add_argument("--checkpoint", type=Path, help="of a keypoint head; an untrained one when not given")
    parser.add_argument("--root", type=Path, help="photographs in CUB's layout; noise when not given")
    parser.add_argument("--crops", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
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

"""Peak memory of ``kpose video`` over the length of the video: it should not grow.

Small synthetic videos of a moving bird and an untrained network, so that the chain itself is measured: reading,
tracking, cropping, predicting, drawing, writing. Each length runs in a process of its own.

    python benchmarks/video_memory.py --frames 1000 10000

The last line is one JSON object: for each length the peak resident set in MiB and frames a second.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import torch
from PIL import Image, ImageDraw

from kpose.backbones import TinyBackbone
from kpose.heads import QuaternionHead
from kpose.tasks import PoseEstimator

SIZE = (96, 64)


def write_checkpoint(path: Path) -> None:
    """Write an untrained network as ``kpose fit`` does."""
    torch.manual_seed(0)
    task = PoseEstimator(TinyBackbone(width=8), QuaternionHead)
    parts = {
        "backbone": {"class_path": "kpose.backbones.TinyBackbone", "init_args": {"width": 8}},
        "head": {"class_path": "kpose.heads.QuaternionHead"},
    }
    names = {
        "_class_path": "kpose.tasks.PoseEstimator",
        "_instantiator": "pytorch_lightning.cli.instantiate_module",
    }
    contents = {"state_dict": task.state_dict(), "hyper_parameters": {**names, **parts}, "hparams_name": "kwargs"}
    contents |= {"pytorch-lightning_version": "2.6.0", "image_size": 32}
    task.on_save_checkpoint(contents)
    torch.save(contents, path)


def write_video(path: Path, count: int) -> None:
    """Write a video of a red bird that moves back and forth."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(count):
            picture = Image.new("RGB", SIZE, (40, 110, 50))
            left = 10 + abs(number % 80 - 40)
            ImageDraw.Draw(picture).ellipse((left, 20, left + 24, 36), fill=(200, 40, 30))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))


def measure(folder: Path, count: int) -> dict[str, float]:
    """Run the command on a video of some length."""
    video = folder / f"bird{count}.mp4"
    write_video(video, count)
    command = [sys.executable, "-m", "kpose", "video", str(video), "--checkpoint", str(folder / "tiny.ckpt")]
    command += ["--out", str(folder / "out"), "--box", "10", "20", "34", "36"]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"kpose video failed on {count} frames; run it by hand to see why.")
    seconds = time.perf_counter() - begun
    return {"peak_mib": round(usage.ru_maxrss / 1024, 1), "frames_per_s": round(count / seconds, 1)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="+", type=int, default=[1000, 10000])
    lengths = parser.parse_args().frames
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_checkpoint(folder / "tiny.ckpt")
        print(json.dumps({str(count): measure(folder, count) for count in lengths}))


if __name__ == "__main__":
    main()

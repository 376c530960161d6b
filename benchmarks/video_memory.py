"""Peak memory of ``kpose video`` over the length of the video: it should not grow.

A rendered bird flies back and forth, and is found, followed and predicted by the network that comes with kpose.
Each length runs in a process of its own.

    python benchmarks/video_memory.py --frames 200 2000

The last line is one JSON object: for each length the peak resident set in MiB and processor seconds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from kpose.video import open_frames
from kpose.visualization import VideoWriter

FPS = 25


def render_flight(folder: Path) -> list[Image.Image]:
    """Return the pictures of a bird that crosses the frame, 480 by 270 pixels."""
    script = Path(__file__).parents[1] / "examples" / "flying_bird.py"
    video = folder / "flight.mp4"
    subprocess.run([sys.executable, str(script), "--out", str(video)], check=True, stdout=subprocess.DEVNULL)
    return [frame.image for frame in open_frames(video)]


def write_video(path: Path, flight: list[Image.Image], count: int) -> None:
    """Write a video of so many frames, in which the bird goes back and forth."""
    round_trip = [*flight, *flight[-2:0:-1]]
    with VideoWriter(path, flight[0].size) as video:
        for number in range(count):
            video.add(round_trip[number % len(round_trip)], number / FPS)


def measure(video: Path) -> dict[str, float]:
    """Run the command on a video."""
    command = [sys.executable, "-m", "kpose", "video", str(video), "--out", str(video.parent / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"kpose video failed on {video.name}: {said}")
    return {"peak_mib": round(usage.ru_maxrss / 1024, 1), "cpu_s": round(usage.ru_utime + usage.ru_stime, 1)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="+", type=int, default=[200, 2000], help="lengths of the videos")
    lengths = parser.parse_args().frames
    with tempfile.TemporaryDirectory() as name:
        flight = render_flight(Path(name))
        found = {}
        for count in lengths:
            video = Path(name) / f"bird{count}.mp4"
            write_video(video, flight, count)
            found[count] = measure(video)
        print(json.dumps(found))


if __name__ == "__main__":
    main()

"""Results of steps on disk, each under a digest of what it was made from."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kpose._distributed import barrier, broadcast, locked, rank
from kpose._files import fingerprint, fresh_file, write_text
from kpose.network import PoseNetwork
from kpose.tasks import ShapeTraining

__all__ = ["ResultFolder", "TrainedHead", "TrainingCameras"]

CAMERAS = "cameras.safetensors"
CHECKPOINT = "last.ckpt"
SCORES = "scores.json"
NOTE = "done.json"


class TrainingCameras(NamedTuple):
    """Cameras that heads are trained on.

    Example:
        Of a `Pipeline`::

            cameras = pipeline.learn_cameras()
            cameras.file, cameras.errors  # cameras.safetensors, {"best_deg": ..., ...}
    """

    file: Path
    """File of the table (see `kpose.reconstruction.CameraTable.save`), in the folder of the step that wrote it."""
    errors: dict[str, float] | None
    """Mean angles to the true cameras, in degrees, where those are known (see `multiplex_error`)."""
    steps: dict[str, dict[str, float] | None]
    """The same after each step before: ``searched_cameras``, by silhouettes, and, where there were such steps,
    ``chosen_cameras``, by appearance, and ``reranked_cameras``, with the part of heads."""
    shapes: ShapeTraining | None
    """Trained stage 2, whose shapes the cameras see; None where they see the mean shape."""


class TrainedHead(NamedTuple):
    """A head that was trained and scored.

    Example:
        Of a `Pipeline`::

            trained = pipeline.train_head("keypoint", pipeline.learn_cameras())
            trained.scores["angle_deg"], trained.network
    """

    checkpoint: Path
    """Checkpoint of the last stage."""
    scores: dict[str, float]
    """Scores on the held-out images; after stage 4 with the overlap before it as ``iou_before_adaptation``."""
    network: PoseNetwork
    """The network, in evaluation."""


class ResultFolder:
    """Folder of results, in which a step that is done is not done again.

    Args:
        root: The folder; it is created.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)

    def step(
        self,
        name: str,
        settings: Mapping[str, Any],
        work: Callable[[Path], object],
        *,
        after: Sequence[Path] = (),
    ) -> Path:
        """Do a step, unless its result is there and was made from the same settings after the same steps.

        The result lies in a folder of its own, named by a digest of both, so that nothing of an older result is
        mixed with it. A note in it, ``done.json``, says what it was made from. All processes of a run work on a
        step together; another run that does the same step waits for it.

        Args:
            name: Name of the step.
            settings: Plain values that the result depends on, without those of earlier steps.
            work: Does the step in a folder, where it may find what an interrupted run left.
            after: Results of earlier steps that this one is made from.

        Returns:
            The folder of the result.
        """
        made = {**settings, "after": [path.relative_to(self.root).as_posix() for path in after]}
        folder = self.root / name / fingerprint(made)
        if not broadcast((folder / NOTE).exists()):
            with locked(folder):
                if not broadcast((folder / NOTE).exists()):
                    work(folder)
                    barrier()
                    if rank() == 0:
                        write_text(folder / NOTE, json.dumps(made, indent=2))
                    barrier()
        return folder

    def publish(self, path: Path, name: str) -> None:
        """Publish a file of a finished step under a name of its own in the folder, in place of what had it."""
        if rank() > 0:
            return
        with fresh_file(self.root / name) as fresh:
            try:
                os.link(path, fresh)
            except OSError:  # not every file system has links
                shutil.copy2(path, fresh)

"""Results of steps on disk, each with the settings that it was made from."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kpose.files import fingerprint, fresh_file, write_text

__all__ = ["ResultFolder", "TrainingCameras"]

CAMERAS = "cameras.safetensors"
CHECKPOINT = "last.ckpt"
SCORES = "scores.json"
COST = "cost.json"


class TrainingCameras(NamedTuple):
    """Cameras of the training images, as stages 1 and 2 left them."""

    file: Path
    """File of the table (see `kpose.reconstruction.CameraMultiplex.save`)."""
    made: dict[str, Any]
    """All settings that they depend on."""
    errors: dict[str, float] | None
    """Mean angles to the true cameras, in degrees, where those are known (see `multiplex_error`)."""
    searched_errors: dict[str, float] | None
    """The same by the silhouettes alone, before any choice."""
    reconstruction: Path | None
    """Checkpoint of stage 2, whose shapes the cameras see; None where they see the mean shape."""
    chosen_errors: dict[str, float] | None = None
    """Errors before a head has voted among the cameras; None where none has."""


class ResultFolder:
    """Folder of a pipeline's results.

    A step that is finished leaves a note with the fingerprint of all settings that it depends on. It is done again
    when they change, into a place of its own, so that nothing of the old result is mixed with the new one.

    Args:
        root: The folder; it is made.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)

    def step(self, name: str, settings: Mapping[str, Any], work: Callable[[Path], None]) -> Path:
        """Do a step, unless its result is there and was made from the same settings.

        Args:
            name: Name of the step.
            settings: All that the result depends on.
            work: Does the step in a folder, where it may find what an interrupted run left.

        Returns:
            The folder of the result.
        """
        folder = self.root / name / fingerprint(settings)
        note = folder / "done.json"
        if not note.exists():
            folder.mkdir(parents=True, exist_ok=True)
            work(folder)
            write_text(note, json.dumps(settings, indent=2, default=str))
        return folder

    def publish(self, path: Path, name: str) -> None:
        """Give a result a name of its own in the folder, in place of what had it.

        Args:
            path: File of a step that is finished.
            name: The name.
        """
        with fresh_file(self.root / name) as fresh:
            try:
                os.link(path, fresh)
            except OSError:  # not every file system has links
                shutil.copy2(path, fresh)

"""Results of steps on disk, each with the settings that it was made from."""

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kpose.files import fingerprint, fresh_file, read_json, write_text

__all__ = ["ResultFolder", "TrainingCameras"]

CAMERAS = "cameras.safetensors"
CHECKPOINT = "last.ckpt"
SCORES = "scores.json"
NOTE = "done.json"
UNRELATED = frozenset({"batch_size", "cache", "num_workers"})
"""Arguments of data modules that no result depends on: stages have batch sizes of their own."""
UNSCORED = UNRELATED | {"test_split"}
"""The same where nothing is scored."""


class TrainingCameras(NamedTuple):
    """Cameras that heads are trained on."""

    file: Path
    """File of the table (see `kpose.reconstruction.CameraTable.save`)."""
    made: dict[str, Any]
    """All settings that they depend on."""
    errors: dict[str, float] | None
    """Mean angles to the true cameras, in degrees, where those are known (see `multiplex_error`)."""
    steps: dict[str, dict[str, float] | None]
    """The same after each step before: ``searched_cameras``, by silhouettes, and, where there were such steps,
    ``chosen_cameras``, by appearance, and ``reranked_cameras``, with the part of heads."""
    reconstruction: Path | None
    """Checkpoint of stage 2, whose shapes the cameras see; None where they see the mean shape."""


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

    def step(
        self,
        name: str,
        settings: Mapping[str, Any],
        work: Callable[[Path], None],
        *,
        unrelated: Collection[str] = UNRELATED,
    ) -> Path:
        """Do a step, unless its result is there and was made from the same settings.

        Args:
            name: Name of the step.
            settings: All that the result depends on.
            work: Does the step in a folder, where it may find what an interrupted run left.
            unrelated: Arguments of ``data`` that the result does not depend on.

        Returns:
            The folder of the result.
        """
        wanted = _related(settings, unrelated)
        folder = self.root / name / fingerprint(wanted)
        if (folder / NOTE).exists():
            return folder
        # Earlier versions digested more of the settings, under other names; the notes hold all of them.
        for note in sorted((self.root / name).glob(f"*/{NOTE}")):
            if fingerprint(_related(_read(note), unrelated)) == folder.name:
                return note.parent
        folder.mkdir(parents=True, exist_ok=True)
        work(folder)
        write_text(folder / NOTE, json.dumps(settings, indent=2, default=str))
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


def _related(settings: Mapping[str, Any], unrelated: Collection[str]) -> dict[str, Any]:
    """Leave the arguments of the data module out that a result does not depend on."""
    data = settings.get("data")
    if not isinstance(data, Mapping) or not isinstance(data.get("init_args"), Mapping):
        return dict(settings)
    kept = {key: value for key, value in data["init_args"].items() if key not in unrelated}
    rest = {key: value for key, value in data.items() if key != "init_args"}
    return {**settings, "data": {**rest, **({"init_args": kept} if kept else {})}}


def _read(note: Path) -> dict[str, Any]:
    try:
        found = read_json(note)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

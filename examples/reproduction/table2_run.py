"""Table 2: pose heads on annotated video, frame by frame, beside the paper's."""

import json
import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from kpose.data import VideoSequence
from kpose.files import file_digest, safe_name, write_file, write_text
from kpose.inference import Predictor
from kpose.pipeline.folder import ResultFolder
from kpose.visualization import from_pillow, image_grid, to_pillow

from markdown import head_label
from origin import origin
from plot import draw_table2
from sheets import picture_sheet
from tracks import Follow, follow_annotation, score_sequence
from video_markdown import table2_csv, table2_markdown

__all__ = ["Table2"]

PAPER = {  # seed paper, Table 2
    "quaternion": {"jaccard_mean": 0.45, "jaccard_recall": 0.48, "jaccard_decay": 0.020},
    "gram_schmidt": {"jaccard_mean": 0.40, "jaccard_recall": 0.27, "jaccard_decay": 0.007},
    "svd": {"jaccard_mean": 0.44, "jaccard_recall": 0.43, "jaccard_decay": 0.028},
    "keypoint": {"jaccard_mean": 0.45, "jaccard_recall": 0.53, "jaccard_decay": 0.018},
}

logger = logging.getLogger("reproduction")


class Table2:
    """Reconstruct the birds of annotated videos online with several heads, and write the table.

    What is done is not done again: each head's scores of each sequence stay in the folder.

    Args:
        checkpoints: Checkpoint of each head. Heads of the paper are known by their names ``quaternion``,
            ``gram_schmidt``, ``svd`` and ``keypoint``; others get a row without the paper's figures.
        sequences: Annotated sequences.
        out: Folder of all results.
        follow: Makes the tracker of a sequence.
        tracker: What it is called in the table.
        device: Where the networks run.
        trusted_modules: Modules beside kpose whose classes the checkpoints may name.
        command: Command line that is noted with the figures.

    Raises:
        ValueError: If there is no checkpoint or no sequence, or two sequences have one name.
    """

    def __init__(
        self,
        checkpoints: Mapping[str, Path],
        sequences: Sequence[VideoSequence],
        out: Path,
        *,
        follow: Follow = follow_annotation,
        tracker: str = "annotation",
        device: str = "cpu",
        trusted_modules: Sequence[str] = (),
        command: Sequence[str] = ("python", "examples/reproduction/table2.py"),
    ) -> None:
        names = [sequence.name for sequence in sequences]
        if not checkpoints or not names or len(set(names)) < len(names):
            raise ValueError(
                f"Table2 needs checkpoints and sequences of distinct names; got {sorted(checkpoints)} and {names}."
            )
        self.checkpoints = dict(checkpoints)
        self.sequences = tuple(sequences)
        self.out = out
        self.follow = follow
        self.tracker = tracker
        self.device = device
        self.trusted_modules = tuple(trusted_modules)
        self.command = tuple(command)

    def run(self) -> dict[str, Any]:
        """Do what is not done yet, and write the table.

        The folder then holds ``results.md``, ``table2.csv``, ``table2.json``, where Matplotlib is installed
        ``table2.png``, and for each sequence a picture of some frames, ``frames_<sequence>.png``.

        Returns:
            The content of ``table2.json``.

        Raises:
            FileNotFoundError: If a checkpoint is missing.
            ValueError: If a checkpoint, frame or mask cannot be used.
        """
        places = {name: self._score_all(name, checkpoint) for name, checkpoint in self.checkpoints.items()}
        found = {
            name: {title: json.loads((place / "scores.json").read_text()) for title, place in of.items()}
            for name, of in places.items()
        }
        figures = self._figures(found)
        write_text(self.out / "table2.json", json.dumps(figures, indent=2) + "\n")
        write_text(self.out / "table2.csv", table2_csv(figures))
        write_text(self.out / "results.md", f"# Table 2\n\n{table2_markdown(figures)}")
        if find_spec("matplotlib") is None:
            logger.info("no plot without Matplotlib: install kpose[plots]")
        else:
            draw_table2(figures, self.out / "table2.png")
        for sequence in self.sequences:
            strips = {name: of[sequence.name] / "frames.png" for name, of in places.items()}
            self._picture(sequence.name, {name: path for name, path in strips.items() if path.exists()})
        return figures

    def _score_all(self, name: str, checkpoint: Path) -> dict[str, Path]:
        """Score a head on every sequence; give the folders of the results."""
        results, digest = ResultFolder(self.out), file_digest(checkpoint)
        load = cache(
            partial(Predictor.from_checkpoint, checkpoint, device=self.device, trusted_modules=self.trusted_modules)
        )
        places = {}
        for sequence in self.sequences:
            settings = {"head": name, "checkpoint": digest, "tracker": self.tracker, **_described(sequence)}
            places[sequence.name] = results.step("tracks", settings, partial(self._score, name, load, sequence))
        return places

    def _score(self, name: str, load: Callable[[], Predictor], sequence: VideoSequence, folder: Path) -> None:
        logger.info("%s, %s", name, sequence.name)
        predictor = load()
        scored = score_sequence(predictor, sequence, follow=self.follow)
        if scored.pictures:
            sheet = to_pillow(picture_sheet(scored.pictures, columns=len(scored.pictures)))
            write_file(folder / "frames.png", partial(sheet.save, format="PNG"))
        content = {key: value for key, value in vars(scored).items() if key != "pictures"}
        write_text(folder / "scores.json", json.dumps(content))

    def _picture(self, sequence: str, strips: Mapping[str, Path]) -> None:
        """Put the frames of all heads under each other."""
        if not strips:
            return
        rows = []
        for path in strips.values():
            with Image.open(path) as strip:
                rows.append(from_pillow(strip))
        sheet = to_pillow(image_grid(rows, [head_label(name) for name in strips], columns=1))
        write_file(self.out / f"frames_{safe_name(sequence)}.png", partial(sheet.save, format="PNG"))

    def _figures(self, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        heads = {}
        for name, sequences in found.items():
            frames = sum(scored["frames"] for scored in sequences.values())
            heads[name] = {
                "paper": PAPER.get(name),
                "mean": _mean([scored["scores"] for scored in sequences.values()]),
                "frames_per_s": frames / sum(scored["seconds"] for scored in sequences.values()),
                "sequences": {title: scored["scores"] for title, scored in sequences.items()},
            }
        some = next(iter(found.values()))  # the masks that a tracker gives are the same for all heads
        tracked = {title: scored["tracker_scores"] for title, scored in some.items() if scored["tracker_scores"]}
        return {
            "table": "table2",
            "origin": origin(self.command),
            "tracker": self.tracker,
            "tracked": {"mean": _mean([*tracked.values()]), "sequences": tracked} if tracked else None,
            "data": [{"sequence": s.name, "frames": len(s), "objects": len(s.objects)} for s in self.sequences],
            "heads": heads,
        }


def _described(sequence: VideoSequence) -> dict[str, Any]:
    """Say what scores of a sequence depend on; where its files lie is no part of it."""
    files = [*sequence.frames, *(path for path in sequence.annotations if path is not None)]
    return {
        "sequence": sequence.name,
        "objects": {str(identity): category for identity, category in sequence.objects.items()},
        "files": [(path.name, path.stat().st_size) for path in files],
    }


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average over sequences, without those that are too short for a score."""
    return {
        key: statistics.fmean(values) if values else math.nan
        for key in scores[0]
        for values in [[score[key] for score in scores if math.isfinite(score[key])]]
    }

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from pipeline.small import files
from video.conftest import Reddest, build_task, draw_bird, write_checkpoint

from kpose.data import read_davis
from kpose.inference import Predictor
from kpose.inference.segmentation import Segment
from kpose.metrics import VideoJaccard
from kpose.video import DiskTracker, OverlapTracker, VideoPredictor, open_frames
from kpose.visualization import from_pillow

from sequence_scores import score_sequence
from table2 import main

COUNT = 6


def write_sequence(root: Path, name: str, *, first: int = 0) -> None:
    """Write a video of the bird in DAVIS' layout, with its masks from some frame on."""
    frames, masks = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    frames.mkdir(parents=True)
    masks.mkdir(parents=True)
    for number in range(COUNT):
        picture = draw_bird(number)
        picture.save(frames / f"{number:05}.jpg", quality=95)
        red = from_pillow(picture)
        mask = (red[0] > 0.7) & (red[1] < 0.3)
        if number >= first:
            Image.fromarray((mask.numpy() * 255).astype("uint8")).save(masks / f"{number:05}.png")


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    root = tmp_path_factory.mktemp("davis")
    write_sequence(root, "blackswan")
    write_sequence(root, "mallard-fly", first=2)
    write_sequence(root, "bear")  # no bird
    return root


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folder with the networks of two heads, as a pipeline leaves them."""
    folder = tmp_path_factory.mktemp("heads")
    write_checkpoint(folder / "quaternion.ckpt")
    shutil.copy(folder / "quaternion.ckpt", folder / "axis_angle.ckpt")
    return folder


@pytest.fixture(scope="module")
def predictor():
    return Predictor(build_task(), image_size=32)


def jaccard(predictor, sequence, numbers):
    """Score a sequence by hand: cameras of each frame, and the silhouettes of those that count."""
    metric = VideoJaccard([sequence.name])
    for found in VideoPredictor(predictor, DiskTracker(sequence))(open_frames(sequence.frames[0].parent)):
        if found.frame.number in numbers:
            [thing] = found.objects
            truth = sequence.masks(found.frame.number)[1]
            key = {"sequence": sequence.name, "object_id": 1, "frame": found.frame.number}
            metric.update(thing.prediction.mask, truth, **key)
    return {name: pytest.approx(float(value)) for name, value in metric.compute().items()}


def test_silhouettes_are_compared_with_the_annotation(davis, predictor):
    [swan, _] = read_davis(davis)
    scored = score_sequence(predictor, swan)
    assert scored.scores == jaccard(predictor, swan, range(COUNT))
    assert 0 < scored.scores["jaccard_mean"] < 1
    assert scored.tracker_scores == {"jaccard_mean": 1, "jaccard_recall": 1, "jaccard_decay": 0}
    assert scored.frames == COUNT


def test_an_object_counts_from_its_first_frame_and_where_it_is_annotated(davis, predictor):
    mallard = read_davis(davis)[1]
    assert score_sequence(predictor, mallard).scores == jaccard(predictor, mallard, range(2, COUNT))
    annotations = tuple(path if number != 3 else None for number, path in enumerate(mallard.annotations))
    scored = score_sequence(predictor, replace(mallard, annotations=annotations))
    assert scored.scores == jaccard(predictor, mallard, (2, 4, 5))


def test_what_is_not_reconstructed_has_an_empty_silhouette(davis, predictor):
    class Blind(DiskTracker):
        def step(self, state, frame):
            return [], state

    [swan, _] = read_davis(davis)
    scored = score_sequence(predictor, swan, follow=lambda sequence, targets: Blind(sequence))
    assert scored.scores["jaccard_mean"] == scored.tracker_scores["jaccard_mean"] == 0


def test_a_tracker_starts_from_the_first_mask(davis, predictor):
    mallard, seen = read_davis(davis)[1], []

    def follow(sequence, targets):
        seen.append(targets)
        return OverlapTracker(targets, segmenter=Reddest())

    scored = score_sequence(predictor, mallard, follow=follow)
    [targets] = seen
    assert torch.equal(targets[1], mallard.masks(2)[1])
    assert scored.frames == COUNT - 2
    assert 0.5 < scored.tracker_scores["jaccard_mean"] < 1


def test_objects_are_found_where_no_mask_is_given(davis, predictor):
    class Late(Reddest):
        """Numbers something else first, and finds the bird from the third frame on."""

        def __init__(self):
            self.calls = 0

        def segment(self, image):
            self.calls += 1
            ground = torch.zeros(image.shape[1:])
            ground[50:, :20] = 1
            return [Segment(ground, 1.0), *super().segment(image)[: self.calls > 2]]

    def follow(sequence, targets):
        return OverlapTracker(segmenter=Late(), newcomer_frames=1)

    [swan, _] = read_davis(davis)
    scored = score_sequence(predictor, swan, follow=follow, unsupervised=True)
    known = score_sequence(
        predictor, swan, follow=lambda *_: OverlapTracker(segmenter=Reddest()), unsupervised=True
    )
    given = score_sequence(predictor, swan, follow=lambda _, targets: OverlapTracker(targets, segmenter=Reddest()))
    assert known.tracker_scores["jaccard_mean"] == pytest.approx(given.tracker_scores["jaccard_mean"], abs=0.05)
    assert known.scores["jaccard_mean"] == pytest.approx(given.scores["jaccard_mean"], abs=0.05)
    # Of the six frames DAVIS' mean has four, in one of which the bird is not found yet.
    share = scored.tracker_scores["jaccard_mean"] / known.tracker_scores["jaccard_mean"]
    assert share == pytest.approx(3 / 4, abs=0.02)


def test_a_sequence_without_annotated_objects_is_refused(davis, predictor):
    [swan, _] = read_davis(davis)
    with pytest.raises(ValueError, match="needs annotated objects; blackswan has none"):
        score_sequence(predictor, replace(swan, annotations=(None,) * COUNT))


@pytest.fixture(scope="module")
def done(davis, checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    arguments = ["--checkpoints", str(checkpoints), "--davis", str(davis), "--out"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main([*arguments, "out"])
        before = files(folder / "out")
        main([*arguments, "out"])
        assert files(folder / "out") == before
        main([*arguments, "out", "--overlap", "--sequences", "blackswan"])
        assert {path: files(folder / "out")[path] for path in before} == before
        assert len(files(folder / "out")) == len(before) + 2
        followed = json.loads((folder / "out" / "table2.json").read_text())
        main([*arguments, "out"])
    return folder, followed


def test_the_files_say_the_same(done, predictor, davis):
    out = done[0] / "out"
    figures = json.loads((out / "table2.json").read_text())
    assert list(figures["heads"]) == ["quaternion", "axis_angle"]
    assert [entry["sequence"] for entry in figures["data"]] == ["blackswan", "mallard-fly"]
    head = figures["heads"]["quaternion"]
    for sequence in read_davis(davis):
        assert head["sequences"][sequence.name] == score_sequence(predictor, sequence).scores
    values = [scores["jaccard_mean"] for scores in head["sequences"].values()]
    assert head["mean"]["jaccard_mean"] == pytest.approx(sum(values) / 2)
    text = (out / "results.md").read_text()
    assert f"| quaternion | {sum(values) / 2:.3f} |" in text
    assert "| 0.45 | 0.48 | 0.020 |" in text
    assert "| the tracker's masks | 1.000 | 1.000 | 0.000 |" in text
    assert "2 sequences, 12 frames" in text
    assert str(davis) not in (out / "table2.json").read_text()


def test_another_tracker_is_named(done):
    figures = done[1]
    assert figures["tracker"] == "overlap (kpose's own segmenter)"
    assert list(figures["heads"]["quaternion"]["sequences"]) == ["blackswan"]
    assert figures["tracked"]["mean"]["jaccard_mean"] < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoints", "nowhere"], "nowhere holds none"),
        (["--checkpoints", "svd=nowhere.ckpt"], "there is no nowhere.ckpt"),
        (["--checkpoints", "{heads}", "quaternion={heads}/axis_angle.ckpt"], "got quaternion twice"),
        (["--checkpoints", "svd={davis}/Annotations/480p/bear/00000.png"], "00000.png"),
        (["--davis", "nowhere"], "read_davis needs nowhere/JPEGImages"),
        (["--sequences", "bear"], "needs some of blackswan, mallard-fly; got bear"),
        (["--sam2", "nowhere"], ""),
        (["--overlap", "nowhere"], ""),
    ],
)
def test_wrong_input_gives_one_line(arguments, message, davis, checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["--checkpoints", str(checkpoints), "--davis", str(davis), "--out", "out"]
    given += [word.format(heads=checkpoints, davis=davis) for word in arguments]
    with pytest.raises(SystemExit) as left:
        main(given)
    assert left.value.code.startswith("table2.py: ")
    assert message in left.value.code
    assert "\n" not in left.value.code
    assert not list(tmp_path.glob("out/**/*.json"))


def test_the_network_that_comes_with_kpose_finds_its_birds(davis, checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Predictor.from_checkpoint(checkpoints / "quaternion.ckpt", segmenter=None).save_pretrained("saved")
    given = ["--davis", str(davis), "--out", "out", "--sequences", "blackswan", "--overlap", "--unsupervised"]
    main(["--checkpoints", "bird", "mine=saved", *given])
    figures = json.loads(Path("out/table2.json").read_text())
    assert [*figures["heads"]] == ["bird", "mine"]
    assert figures["tracker"] == "overlap, without first masks (kpose's own segmenter)"
    tracks = files(Path("out"))
    main(["--checkpoints", "bird", "mine=saved", *given])
    assert {path: files(Path("out"))[path] for path in tracks} == tracks


def test_masks_are_given_to_other_trackers(davis, checkpoints, capsys):
    with pytest.raises(SystemExit) as left:
        main(["--checkpoints", str(checkpoints), "--davis", str(davis), "--out", "out", "--unsupervised"])
    assert left.value.code == 2
    assert "--unsupervised needs --overlap" in capsys.readouterr().err


def test_missing_data_is_reported(checkpoints, capsys):
    with pytest.raises(SystemExit) as left:
        main(["--checkpoints", str(checkpoints), "--out", "out"])
    assert left.value.code == 2
    assert "--davis, of --youtube-vos, or both" in capsys.readouterr().err

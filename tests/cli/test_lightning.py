"""Lightning's commands as users call them, on a handful of synthetic birds."""

import os
import re
import runpy
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from fakes import write_fake_cub

from kpose.cli import main
from kpose.heads import GramSchmidtHead, KeypointHead, ProcrustesHead, QuaternionHead
from kpose.tasks import PoseEstimator
from kpose.templates import bird, save_template

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "examples" / "configs"
HEADS = {
    "quaternion": QuaternionHead,
    "gram_schmidt": GramSchmidtHead,
    "procrustes": ProcrustesHead,
    "keypoint": KeypointHead,
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .* does not have many workers"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    # Lightning 2.6 still registers instantiators the old way.
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


@pytest.fixture
def arguments(cache, tmp_path, monkeypatch):
    """Layer the files of the examples, made tiny; run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kpose"])

    def layered(head, *more):
        head_file = CONFIGS / "head" / f"{head}.yaml" if head in HEADS else head
        return [
            f"--config={CONFIGS / 'base.yaml'}",
            f"--config={CONFIGS / 'data' / 'synthetic.yaml'}",
            f"--config={head_file}",
            "--model.backbone.width=8",
            f"--data.cache_dir={cache}",
            "--data.num_train=8",
            "--data.num_val=4",
            "--data.num_test=4",
            "--data.image_size=64",
            "--data.batch_size=4",
            "--trainer.accelerator=cpu",
            "--trainer.log_every_n_steps=1",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
            *more,
        ]

    return layered


@pytest.mark.parametrize("head", HEADS)
def test_every_head_runs_from_its_file(head, arguments):
    main(["fit", *arguments(head, "--trainer.fast_dev_run=true")])


def test_later_files_change_the_head_and_templates_come_from_files(arguments, tmp_path):
    template = bird()
    save_template(template._replace(vertices=1.1 * template.vertices), tmp_path / "big.safetensors")
    more = (f"--config={CONFIGS / 'head' / 'keypoint.yaml'}", "--model.template=big.safetensors")
    main(["fit", *arguments("quaternion", *more, "--trainer.max_epochs=1")])
    model = PoseEstimator.load_from_checkpoint("lightning_logs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert isinstance(model.network.head, KeypointHead)
    assert torch.allclose(model.network.head.template_vertices, 1.1 * template.vertices)
    assert torch.allclose(model.network.vertices, model.network.head.template_vertices)


def test_base_file_names_no_head(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["fit", *arguments(CONFIGS / "data" / "synthetic.yaml", "--trainer.fast_dev_run=true")])
    assert "head" in capsys.readouterr().err


def test_class_that_is_no_head_is_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["fit", *arguments("quaternion", "--model.head=torch.nn.Linear", "--trainer.fast_dev_run=true")])
    assert "PoseHead" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--data.batch_size=-1"], "needs a positive batch_size"),
        (["--data.image_size=100000"], "needs image_size from 1 to 4096 pixels; got 100000"),
        (
            ["--data.image_size=48"],
            "multiples of 32 pixels, as its cells are; got 48 x 48. Take 32 x 32 or 64 x 64",
        ),
        (["--data.num_train=100000000"], "needs sets of at most"),
        (["--data=CUBDataModule", "--data.root=nowhere"], "CUB data needs nowhere"),
        (["--trainer.accelerator=cuda"], "CUDA"),
    ],
)
def test_settings_and_files_that_cannot_be_used_are_one_line(more, line, arguments, capsys):
    if torch.cuda.is_available() and "cuda" in more[-1]:
        pytest.skip("this machine has CUDA")
    given = [text for text in arguments("quaternion") if "--data" not in text or not more[0].startswith("--data=")]
    with pytest.raises(SystemExit) as caught:
        main(["fit", *given, *more])
    assert caught.value.code == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("kpose: ")
    assert line in last


@pytest.fixture
def photographs(arguments, tmp_path):
    """Return a folder in CUB's layout, and the arguments that train on it."""
    root = tmp_path / "cub"
    write_fake_cub(root)
    own = [text for text in arguments("quaternion") if "--data" not in text]
    return root, [
        *own,
        "--data=CUBDataModule",
        f"--data.root={root}",
        "--data.image_size=64",
        "--data.batch_size=4",
    ]


def refusal(capsys, *args):
    with pytest.raises(SystemExit) as caught:
        main(list(args))
    assert caught.value.code == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("kpose: ")
    return last


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"no checkpoint", r"last\.ckpt is damaged, cut short or no checkpoint"),
        (
            {"state_dict": {"w": torch.zeros(2)}, "pytorch-lightning_version": "2.5.0"},
            "the model that is configured",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_one_line(content, line, arguments, capsys, tmp_path):
    file = tmp_path / "last.ckpt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    last = refusal(capsys, "validate", *arguments("quaternion"), f"--ckpt_path={file}")
    assert re.search(line, last), last


def test_photographs_without_cameras_are_told_where_they_come_from(photographs, capsys):
    root, given = photographs
    (root / "sfm" / "cameras.csv").unlink()
    assert re.search(r"needs batch entries.*camera.*python -m kpose.data.sfm", refusal(capsys, "fit", *given))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_photo_that_cannot_be_read_is_named(content, workers, photographs, capsys):
    root, given = photographs
    photos = sorted((root / "images").rglob("*.jpg"))
    for photo in photos:
        photo.unlink() if content is None else photo.write_bytes(content)
    line = refusal(capsys, "fit", *given, f"--data.num_workers={workers}")
    assert any(str(photo) in line for photo in photos)
    assert "File " not in line


def test_a_second_run_without_logger_keeps_what_the_first_has_left(arguments, capsys):
    given = arguments("quaternion", "--trainer.logger=false", "--trainer.max_epochs=1")
    main(["fit", *given])
    assert re.search(r"needs a folder for its settings; .*config\.yaml is another", refusal(capsys, "fit", *given))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")
def test_runs_with_weights_and_biases_keep_their_settings_apart(arguments, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = ("--trainer.logger=WandbLogger", "--trainer.logger.offline=true")
    for _ in range(2):
        main(["fit", *arguments("quaternion", *logger, "--trainer.max_epochs=1", "--trainer.limit_val_batches=0")])
        wandb.finish()
    kept = sorted(path.parent for path in tmp_path.glob("lightning_logs/*/config.yaml"))
    assert kept == sorted(path.parent.parent for path in tmp_path.glob("lightning_logs/*/checkpoints/last.ckpt"))
    assert len(kept) == 2


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """Be a job of SLURM with one task; what is asked of its controller is written to a file."""
    place = {"NTASKS": 1, "JOB_ID": 1234, "JOB_NAME": "fit", "PROCID": 0, "LOCALID": 0, "NODEID": 0}
    for name, value in place.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29511")
    script = tmp_path / "bin" / "scontrol"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/asked\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    return monkeypatch


class Requeued(BaseException):
    pass


def steps_of(monkeypatch, at=None):
    """Note step and images of training batches; get the signal of SLURM in one, and be ended in the next."""
    step, steps = PoseEstimator.training_step, []

    def noted(self, batch, *args):
        if at is not None and len(steps) > at:
            raise Requeued
        steps.append((self.global_step, batch["index"].tolist()))
        if len(steps) - 1 == at:
            os.kill(os.getpid(), signal.SIGUSR1)
        return step(self, batch, *args)

    monkeypatch.setattr(PoseEstimator, "training_step", noted)
    return steps


@pytest.mark.parametrize("at", [1, 3], ids=["within-an-epoch", "in-its-last-batch"])
def test_a_requeued_job_sees_every_image_of_an_epoch_once(at, arguments, slurm, tmp_path):
    given = arguments(
        "quaternion", "--data.batch_size=2", "--trainer.max_epochs=2", "--trainer.limit_val_batches=0"
    )
    with slurm.context() as patch:
        steps = steps_of(patch, at)
        with pytest.raises(Requeued):
            main(["fit", *given])
    assert (tmp_path / "asked").read_text() == "requeue 1234\n"
    assert len(list(tmp_path.glob("lightning_logs/version_1234-*/hpc_ckpt_1.ckpt"))) == 1
    with slurm.context() as patch:
        left = steps_of(patch)
        main(["fit", *given])
    steps += left
    assert [number for number, _ in steps] == list(range(8))
    images = [sorted(row for _, index in steps[first : first + 4] for row in index) for first in (0, 4)]
    assert images[0] == images[1] == sorted(set(images[0]))
    assert len(images[0]) == 8


def test_another_job_and_other_settings_begin_again(arguments, slurm, tmp_path):
    given = arguments("quaternion", "--trainer.max_epochs=2", "--trainer.limit_val_batches=0")
    with slurm.context() as patch:
        steps_of(patch, at=2)
        with pytest.raises(Requeued):
            main(["fit", *given])
    for change in ("--model.feature_dropout=0.1", "--trainer.max_epochs=2"):  # another run of the job; another job
        with slurm.context() as patch:
            steps = steps_of(patch)
            main(["fit", *given, change])
        assert [number for number, _ in steps] == list(range(4))
        slurm.setenv("SLURM_JOB_ID", "1235")
    main(["test", *[text for text in given if "epochs" not in text and "val_" not in text]])
    (left,) = tmp_path.glob("lightning_logs/version_1234-*/hpc_ckpt_1.ckpt")
    assert left.parent.joinpath("config.yaml").exists()


def test_more_tasks_than_devices_are_one_line(arguments, slurm, capsys):
    slurm.setenv("SLURM_NTASKS", "2")
    assert "--ntasks-per-node=2" in refusal(capsys, "fit", *arguments("quaternion", "--trainer.devices=1"))
    slurm.setenv("SLURM_NTASKS_PER_NODE", "2")
    assert "got 2 tasks and 1 in all (devices times nodes). Give --trainer.devices=2" in refusal(
        capsys, "fit", *arguments("quaternion", "--trainer.devices=1")
    )


def test_errors_of_code_keep_their_traceback(arguments, monkeypatch):
    def fail(*_):
        raise ValueError("a mistake of the code")

    monkeypatch.setattr(PoseEstimator, "training_step", fail)
    with pytest.raises(ValueError, match="a mistake of the code"):
        main(["fit", *arguments("quaternion", "--trainer.fast_dev_run=true")])


@pytest.fixture
def own_heads(tmp_path, monkeypatch):
    """Put the example's heads into the current folder, which Python does not look through by itself."""
    shutil.copytree(ROOT / "examples" / "custom_head", tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])


def test_users_own_head_works_from_the_console_script(arguments, own_heads, monkeypatch):
    script = str(Path(sys.executable).with_name("kpose"))
    monkeypatch.setattr(sys, "argv", [script, "fit", *arguments("axis_angle.yaml", "--trainer.fast_dev_run=true")])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(script, run_name="__main__")
    assert not end.value.code
    monkeypatch.delitem(sys.modules, "axis_angle")


@pytest.mark.parametrize("name", ["axis_angle", "rotation_bins"])
def test_users_own_head_works_from_the_module(name, arguments, own_heads, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kpose", "fit", *arguments(f"{name}.yaml", "--trainer.fast_dev_run=true")])
    runpy.run_module("kpose", run_name="__main__")
    assert name in sys.modules
    monkeypatch.delitem(sys.modules, name)

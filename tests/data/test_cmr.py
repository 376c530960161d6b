import sys

import numpy as np
import pytest
import torch
from fakes import PARTS, write_fake_cub

from kpose.data import read_mean_parts
from kpose.data.cmr import convert_cmr, main
from kpose.data.cub import read_cub
from kpose.geometry import geodesic_distance

scipy_io = pytest.importorskip("scipy.io", reason="SciPy is not installed; it reads .mat files")
ROWS = {"train": [0, 2, 4], "val": [1], "test": [3, 5, 6, 7]}


def write_cache(folder, notes, camera, rows=ROWS):
    """Write CMR's files: 1-based positions, 1 × n struct arrays, 2 × 1 translations, a 3 × 15 shape."""
    (folder / "data").mkdir(parents=True)
    (folder / "sfm").mkdir()
    for split, members in rows.items():
        images = np.zeros((1, len(members)), dtype=[("id", "O"), ("rel_path", "O"), ("parts", "O")])
        cameras = np.zeros((1, len(members)), dtype=[("rot", "O"), ("scale", "O"), ("trans", "O")])
        for k, row in enumerate(members):
            images[0, k] = (k + 1, notes.files[row], np.zeros((3, 15)))
            cameras[0, k] = (
                camera.rotation[row].double().numpy(),
                float(camera.scale[row]),
                camera.translation[row].double().numpy()[:, None] + 0.5,
            )
        scipy_io.savemat(folder / "data" / f"{split}_cub_cleaned.mat", {"images": images})
        shape = {"sfm_anno": cameras, "S": PARTS.T.double().numpy(), "conv_tri": np.ones((4, 3))}
        scipy_io.savemat(folder / "sfm" / f"anno_{split}.mat", shape)


@pytest.fixture
def folders(tmp_path):
    camera = write_fake_cub(tmp_path / "cub", cameras=False, pictures=False)
    notes = read_cub(tmp_path / "cub")
    write_cache(tmp_path / "cache", notes, camera)
    return tmp_path / "cache", tmp_path / "cub", camera


def test_cameras_and_splits_are_those_of_the_files(folders):
    cache, root, camera = folders
    assert convert_cmr(cache, root) == 8
    notes = read_cub(root)
    assert notes.splits == ("train", "val", "train", "test", "train", "test", "test", "test")
    assert torch.allclose(notes.camera.scale, camera.scale, atol=1e-4)
    assert torch.allclose(notes.camera.translation, camera.translation, atol=1e-4)
    assert geodesic_distance(notes.camera.rotation, camera.rotation).max() < 1e-4
    assert torch.allclose(read_mean_parts(root / "sfm/mean_parts.csv"), PARTS, atol=1e-5)


def test_one_split_is_enough_and_foreign_images_are_left_out(folders, tmp_path):
    cache, root, _ = folders
    for split in ("train", "test"):
        (cache / "data" / f"{split}_cub_cleaned.mat").unlink()
    main([str(cache), str(root), "--out", str(tmp_path / "out" / "cameras.csv")])
    assert read_cub(root, tmp_path / "out" / "cameras.csv").splits == ("", "val", "", "", "", "", "", "")
    write_fake_cub(tmp_path / "other", 1, cameras=False, pictures=False)
    with pytest.raises(ValueError, match="none of them is there"):
        convert_cmr(cache, tmp_path / "other")


def test_missing_files_are_named(folders, tmp_path, capsys):
    cache, root, _ = folders
    with pytest.raises(FileNotFoundError, match=r"train_cub_cleaned\.mat.*python -m kpose\.data\.sfm"):
        convert_cmr(tmp_path / "nothing", root)
    (cache / "sfm" / "anno_val.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"anno_val\.mat"):
        convert_cmr(cache, root)
    with pytest.raises(SystemExit) as exit_info:
        main([str(cache), str(root)])
    assert exit_info.value.code == 1
    assert "anno_val.mat" in capsys.readouterr().err


def test_files_that_do_not_belong_together_are_refused(folders):
    cache, root, _ = folders
    (cache / "sfm" / "anno_val.mat").write_bytes((cache / "sfm" / "anno_train.mat").read_bytes())
    with pytest.raises(ValueError, match="as many cameras as images; got 3"):
        convert_cmr(cache, root)


def test_without_scipy_the_error_says_how_to_install_it(folders, monkeypatch):
    cache, root, _ = folders
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ImportError, match="pip install scipy"):
        convert_cmr(cache, root)

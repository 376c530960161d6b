import shutil

import pytest

from sfm_cameras import main


def test_cameras_agree_with_themselves(cub_root, tmp_path, capsys):
    """The own cameras are those of the folder, so that angles are 0 and both lines are equal."""
    root = tmp_path / "cub"
    root.mkdir()
    for path in cub_root.iterdir():
        if path.name != "sfm":
            (root / path.name).symlink_to(path)
    (root / "sfm").mkdir()
    lines = (cub_root / "sfm" / "cameras.csv").read_text().splitlines()
    few = [line for split in ("train", "val") for line in [one for one in lines if f",{split}," in one][:20]]
    (root / "sfm" / "cameras.csv").write_text("\n".join([lines[0], *few]) + "\n")
    shutil.copy(cub_root / "sfm" / "mean_parts.csv", root / "sfm")
    main(root, root / "sfm" / "cameras.csv", image_size=32)
    own, other, angles = capsys.readouterr().out.splitlines()
    assert own.removeprefix("own") == other.removeprefix("other")
    assert 0.3 < float(own.rpartition(" ")[2]) < 0.9
    assert angles == "40 images: angle median 0.0°, mean 0.0°, within 30° 100.0%"


def test_missing_cameras_are_reported(cub_root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        main(cub_root, tmp_path / "nowhere.csv")

"""The file of a sheet: written whole, and in place of a sheet only.

Apart from `kpose.inference.sheet`, which draws: predicting without files does without trimesh.
"""

from collections.abc import Mapping
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from kpose.files import real_path
from kpose.inference.results import made_by_kpose, write_picture
from kpose.inference.sheet import lay_out
from kpose.visualization import to_pillow

__all__ = ["check_sheet", "write_sheet"]

LEVELS = 63  # steps of a colour in a file, which is half as large as with 255 and looks the same


def check_sheet(path: Path, inputs: set[Path], *, overwrite: bool) -> None:
    """Refuse to replace what is no sheet of kpose.

    Args:
        path: Where the sheet goes.
        inputs: Files that must not be replaced, as `kpose.files.real_path` gives them.
        overwrite: Whether files of others may be replaced.

    Raises:
        ValueError: If the sheet would replace an input.
        FileExistsError: If there is a file that kpose did not make.
    """
    if real_path(path) in inputs:
        raise ValueError(f"The sheet {path} would replace an input. Choose another --out.")
    if path.exists() and not overwrite and not made_by_kpose(path):
        raise FileExistsError(f"The sheet {path} exists. Choose another --out, or give --overwrite.")


def write_sheet(path: Path, rows: Mapping[str, Mapping[str, Float[Tensor, "3 _ _"]]]) -> None:
    """Write a sheet, whole or not at all.

    Args:
        path: PNG file; an older one is replaced.
        rows: What `sheet_row` gives for each photo, by the photo's caption.

    Raises:
        ValueError: If there are no rows, or rows of different heads.
    """
    sheet = lay_out([*rows.values()], [*rows])
    write_picture(path, to_pillow((LEVELS * sheet).round() / LEVELS), optimize=True)

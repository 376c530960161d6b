"""Pipelines that come with kpose, under the names of their data."""

from pathlib import Path

import kpose

__all__ = ["configuration"]

FILES = {"cub": "cub-improved.yaml", "synthetic": "synthetic.yaml"}


def configuration(data: str) -> Path:
    """Find the configuration of the pipeline for some data.

    Args:
        data: ``cub`` or ``synthetic``, or a file of one's own (see ``kpose pipeline``).

    Returns:
        The file.

    Raises:
        FileNotFoundError: If there is no such file.

    Example:
        >>> configuration("cub").name
        'cub-improved.yaml'
    """
    if data not in FILES:
        if not Path(data).is_file():
            raise FileNotFoundError(
                f"kpose reproduce needs data, one of {', '.join(FILES)} or a configuration file; there is no "
                f"{data}. Check the path."
            )
        return Path(data)
    # A wheel brings the files of examples/ along; a checkout has them where they are.
    package = Path(kpose.__file__).parent
    folders = (package / "reproduction" / "configs", package.parent / "examples" / "configs" / "pipeline")
    for folder in folders:
        if (folder / FILES[data]).is_file():
            return folder / FILES[data]
    raise FileNotFoundError(f"kpose was installed without {FILES[data]}. Install it from its wheel or checkout.")

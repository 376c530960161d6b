"""Pipelines that come with the examples, under the names of their data."""

from pathlib import Path

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
                f"table1.py needs data, one of {', '.join(FILES)} or a configuration file; there is no "
                f"{data}. Check the path."
            )
        return Path(data)
    return Path(__file__).parents[1] / "configs" / "pipeline" / FILES[data]

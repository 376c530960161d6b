"""Sizes beyond which something would take all memory of a machine, refused before any is taken."""

__all__ = ["MAX_SIDE", "MAX_VERTICES", "MIN_VERTICES", "check_side"]

MAX_SIDE = 4096
"""Pixels on a side of what a network sees and of what is drawn."""
MIN_VERTICES, MAX_VERTICES = 50, 20_000
"""Vertices of a template."""


def check_side(size: int, needed_by: str, name: str = "image_size") -> None:
    """Refuse a side of a square picture that is not positive or too long.

    Args:
        size: Side, in pixels.
        needed_by: Name of what needs it, for the error.
        name: Name of the argument.

    Raises:
        ValueError: If it is out of range.

    Example:
        >>> check_side(100_000, "Predictor")
        Traceback (most recent call last):
        ValueError: Predictor needs image_size from 1 to 4096 pixels; got 100000. Change it.
    """
    if not 1 <= size <= MAX_SIDE:
        raise ValueError(f"{needed_by} needs {name} from 1 to {MAX_SIDE} pixels; got {size}. Change it.")

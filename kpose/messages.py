"""What errors say, where a line is all that there is room for."""

__all__ = ["one_line"]


def one_line(error: BaseException) -> str:
    r"""Give the text of an error on one line.

    Args:
        error: Error.

    Returns:
        Its text, or its kind if it has none.

    Example:
        >>> one_line(ValueError("a\n  b")), one_line(MemoryError())
        ('a b', 'MemoryError')
    """
    return " ".join(str(error).split()) or type(error).__name__

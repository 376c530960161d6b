"""What errors and warnings say: on one line, once, and with counted nouns."""

import logging

__all__ = ["counted", "one_line", "warn_once"]


def one_line(error: BaseException) -> str:
    r"""Return the text of an error on one line.

    Example:
        >>> one_line(ValueError("a\n  b")), one_line(MemoryError())
        ('a b', 'MemoryError')
    """
    return " ".join(str(error).split()) or type(error).__name__


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "photo"), counted(12_000, "photo")
        ('1 photo', '12,000 photos')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


_told: set[tuple[str, str]] = set()


def warn_once(log: logging.Logger, line: str) -> None:
    """Log a warning, unless this process has logged it."""
    if (log.name, line) not in _told:
        _told.add((log.name, line))
        log.warning("%s", line)

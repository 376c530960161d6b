"""What errors and warnings say: on one line, once, and with counted nouns."""

import errno
import logging

__all__ = ["counted", "one_line", "warn_once"]


_FULL = "Free some space there, or write elsewhere."
_CLOSED = "Change who may use it, or name another."
_ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.EROFS: _CLOSED,
}


def one_line(error: BaseException) -> str:
    r"""Return the text of an error on one line, and what to do where the file system refuses something.

    Example:
        >>> one_line(ValueError("a\n  b")), one_line(MemoryError())
        ('a b', 'MemoryError')
        >>> one_line(OSError(28, "No space left on device"))
        '[Errno 28] No space left on device. Free some space there, or write elsewhere.'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    advice = _ADVICE.get(error.errno or 0) if isinstance(error, OSError) else None
    return text if advice is None or text.endswith(advice) else f"{text.rstrip('.')}. {advice}"


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

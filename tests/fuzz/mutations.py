"""Damage done to files on the way: the same for the same seed."""

import random
from collections.abc import Callable
from typing import Any

NUMBERS = (
    b"0",
    b"-1",
    b"1e400",
    b"nan",
    b"-inf",
    b"2147483648",
    b"-9223372036854775809",
    b"1e-320",
    b"",
    b"9" * 400,
)
WORDS = tuple(value.to_bytes(4, order) for value in (0, 1, 2**31, 2**32 - 1) for order in ("little", "big"))
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, 2**63, 10**400, 1e-320, 1.5, float("nan"), float("inf"), "", "x", "\ud800", "1e9", [],
    {}, [[]], [None], {"x": []}, [[1]], [-1] * 7, "a" * 10_000,
)  # fmt: skip
MAX_BYTES = 1 << 20


def damage(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Damage bytes in one to four places."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        content = draw.choice(DAMAGES)(content, others, draw)[:MAX_BYTES]
    return content


def _place(content: bytes, draw: random.Random) -> int:
    # Headers are where readers decide, and they are at the start or the end.
    length = len(content)
    return min(
        length, draw.choice((draw.randrange(length + 1), draw.randrange(64), max(0, length - draw.randrange(64))))
    )


def _flip(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[:at] + bytes(byte ^ 1 << draw.randrange(8) for byte in content[at : at + 1]) + content[at + 1 :]


def _overwrite(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    at, word = _place(content, draw), draw.choice((*WORDS, draw.randbytes(draw.randrange(1, 9))))
    return content[:at] + word + content[at + len(word) :]


def _cut(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    return content[: _place(content, draw)]


def _remove(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[:at] + content[at + draw.choice((1, 2, 4, 100)) :]


def _repeat(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[:at] + content[at : at + draw.randrange(1, 200)] * draw.choice((2, 3, 50)) + content[at:]


def _splice(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    other = draw.choice(others)
    return content[: _place(content, draw)] + other[_place(other, draw) :]


def _number(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Replace a number written in digits."""
    places = [at for at in range(len(content)) if content[at : at + 1].isdigit()][:2000]
    if not places:
        return _flip(content, others, draw)
    first = draw.choice(places)
    last = first
    while content[last : last + 1].isdigit():
        last += 1
    return content[:first] + draw.choice(NUMBERS) + content[last:]


def _line(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Move, drop or repeat a line."""
    lines = content.split(b"\n")
    chosen = lines.pop(draw.randrange(len(lines)))
    for _ in range(draw.randrange(3)):
        lines.insert(draw.randrange(len(lines) + 1), chosen)
    return b"\n".join(lines)


def _nest(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Open a great many brackets."""
    at = _place(content, draw)
    return content[:at] + draw.choice((b"[", b'{"a":', b"(")) * draw.choice((3, 100_000)) + content[at:]


DAMAGES: tuple[Callable[[bytes, list[bytes], random.Random], bytes], ...] = (
    _flip, _flip, _overwrite, _overwrite, _cut, _remove, _repeat, _splice, _number, _number, _line, _nest,
)  # fmt: skip


def distort(value: Any, draw: random.Random) -> Any:
    """Change one place of nested lists and dictionaries: a value, a key, a length."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        changed = dict(value)
        kind = draw.random()
        if kind < 0.1:
            del changed[key]
        elif kind < 0.15:
            changed[draw.choice(("x", "", key + " "))] = changed.pop(key)
        else:
            changed[key] = distort(value[key], draw)
        return changed
    if isinstance(value, list) and value and draw.random() < 0.9:
        at = draw.randrange(len(value))
        if draw.random() < 0.15:
            return value[:at] + value[at + 1 :] * draw.randrange(3)
        return [*value[:at], distort(value[at], draw), *value[at + 1 :]]
    return draw.choice(VALUES)

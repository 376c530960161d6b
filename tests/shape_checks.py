"""The check of shapes in signatures, which tests add to all of kpose."""

from collections.abc import Callable
from typing import Any

from beartype import beartype


def check_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check arguments together with the result, and not before the call as well.

    Jaxtyping gives two stand-ins for each function, both to be checked: one takes the arguments, the other, after
    the call, the arguments and the result as a further keyword. A third of the time of checks goes into the first.
    """
    keywords = function.__code__.co_varnames[: function.__code__.co_argcount + function.__code__.co_kwonlyargcount]
    return beartype(function) if any(name.startswith("ret") for name in keywords[-1:]) else function

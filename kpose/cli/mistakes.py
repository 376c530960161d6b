"""What jsonargparse says of wrong settings, on one line, with their file and what may have been meant."""

import inspect
import pydoc
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from kpose.cli.configuration import suggestion

__all__ = ["explain"]

_WITH_CLASSES = (
    "kpose.backbones", "kpose.callbacks", "kpose.data", "kpose.heads", "kpose.losses", "kpose.pipeline",
    "kpose.reconstruction", "kpose.rendering", "kpose.tasks", "pytorch_lightning.callbacks",
    "pytorch_lightning.loggers", "torch.optim", "torch.optim.lr_scheduler",
)  # fmt: skip
# Lines on what else was tried, and with all settings of a class, around the one that tells the fault.
_ABOUT_ATTEMPTS = (
    "Does not validate against", "Subtypes:", "Errors:", "- Expected a <class 'NoneType'>", "- Expected a path but",
    "Given value type:", "Given value: {", "Given value: [", "Given value: Namespace(", "Given value: NestedArg(",
)  # fmt: skip


def explain(error: Exception, files: Sequence[Path]) -> str:
    """Return the lines of an error that tell what is wrong in settings, as one.

    Args:
        error: What a parser raised.
        files: Files that it has read, in their order; the last one with the name that is wrong is named.
    """
    lines = (line.strip() for line in str(error).splitlines())
    whole = " ".join(line for line in lines if line and not line.startswith(_ABOUT_ATTEMPTS))
    text, _, value = whole.partition(". Got value: Namespace(")
    unknown = re.findall(r"(?:import path string: |has no attribute '|Option '(?:\w+\.)*)(\w+)", text)
    wrong = unknown or re.findall(r'Parser key "(?:\w+\.)*(\w+)"', text)
    place = next((f"{path}: " for path in reversed(files) if wrong and wrong[-1] in path.read_text("utf-8")), "")
    owners = re.findall(r"class_path[ =]'([\w.]+)'", f"{text} {value.partition(',')[0]}")
    meant = suggestion(unknown[-1], _names(owners)) if unknown else ""
    return f"{place}{text or type(error).__name__}{meant}"


def _names(owners: Sequence[str]) -> set[str]:
    """Return the names of classes that settings may have, and of the arguments of the last owner."""
    found = {name for module in map(import_module, _WITH_CLASSES) for name in module.__all__ if name[0].isupper()}
    owner = pydoc.locate(owners[-1]) if owners else None
    return found | set(inspect.signature(owner).parameters if callable(owner) else ())

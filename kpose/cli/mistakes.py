"""What jsonargparse says of wrong settings, on one line, with their file and what may have been meant."""

import inspect
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
    text = " ".join(line for line in lines if line and not line.startswith(_ABOUT_ATTEMPTS))
    text = text.partition(". Got value: Namespace(")[0] or type(error).__name__
    unknown = re.findall(r"import path string: (\w+)|has no attribute '(\w+)'|Option '([\w.]+)' is not", text)
    name = "".join(unknown[-1]).rpartition(".")[2] if unknown else ""
    wrong = name or "".join(re.findall(r'Parser key "(?:[\w]+\.)*(\w+)"', text)[-1:])
    place = next((f"{path}: " for path in reversed(files) if wrong and wrong in path.read_text("utf-8")), "")
    return f"{place}{text}{suggestion(name, _names()) if name else ''}"


def _names() -> set[str]:
    """Return the names of classes that settings may have, and of their arguments."""
    modules = [*map(import_module, _WITH_CLASSES)]
    classes = {name: getattr(module, name) for module in modules for name in module.__all__ if name[0].isupper()}
    return {*classes, *(word for kind in classes.values() for word in inspect.signature(kind).parameters)}

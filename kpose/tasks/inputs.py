"""What tasks are given in more than one form: templates, and the images that are trained on."""

from pathlib import Path
from typing import Any

from kpose.structures import Template
from kpose.templates import bird, load_template

__all__ = ["template_of", "training_images"]


def template_of(template: Template | Path | None) -> Template:
    """Return a template, read from its file, or the built-in bird when None."""
    if template is None:
        return bird()
    return template if isinstance(template, Template) else load_template(template)


def training_images(who: str, data: Any) -> Any:  # noqa: ANN401 - any Lightning data module
    """Return the training set of a data module, whose cameras are to be learned; TypeError if it has none."""
    if not hasattr(data, "dataset"):
        raise TypeError(
            f"{who} needs a data module with a method `dataset` to know its training images; got "
            f"{type(data).__name__}. Take one of kpose.data."
        )
    return data.dataset("train")

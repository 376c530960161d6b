"""The built-in bird."""

import functools
from pathlib import Path

from kpose.structures import Template
from kpose.templates.files import load_template

__all__ = ["bird"]


def bird() -> Template:
    """Return the built-in template of a bird: standing, wings folded, beak toward -y.

    Returns:
        Template of 642 vertices with the 15 parts of CUB-200-2011 in their order, in the frame and unit of CMR's
        structure-from-motion cameras; the same on each call, and the caller's own.

    Example:
        >>> template = bird()
        >>> template.part_names[1], bool(template.vertices[template.part_vertices[1], 1] < 0)
        ('beak', True)
    """
    shared = _bird()
    return shared._replace(
        **{name: part.clone() for name, part in shared._asdict().items() if name != "part_names"}
    )


@functools.cache
def _bird() -> Template:
    return load_template(Path(__file__).with_name("bird.safetensors"))

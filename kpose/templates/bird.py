"""The built-in bird."""

import functools

from kpose.structures import Template
from kpose.templates.body import Body, Relief, Section
from kpose.templates.build import build_template

__all__ = ["BIRD", "BIRD_PARTS", "bird"]

BIRD = Body(
    sections=(
        Section(-0.713, -0.079, 0.0, 0.0, 0.035, 41.5),
        Section(-0.683, -0.067, 0.02, 0.026, 0.021, 39.0),
        Section(-0.635, -0.034, 0.035, 0.047, 0.007, 36.6),
        Section(-0.592, -0.01, 0.061, 0.086, -0.007, 34.1),
        Section(-0.566, 0.01, 0.154, 0.175, -0.022, 29.7),
        Section(-0.485, 0.073, 0.208, 0.234, -0.036, 23.3),
        Section(-0.391, 0.086, 0.209, 0.25, -0.05, 15.0),
        Section(-0.277, 0.041, 0.219, 0.284, -0.063, 5.6),
        Section(-0.12, -0.032, 0.3, 0.36, -0.072, -4.8),
        Section(0.13, -0.073, 0.366, 0.4, -0.075, -12.4),
        Section(0.408, -0.066, 0.369, 0.41, -0.072, -11.3),
        Section(0.67, -0.021, 0.322, 0.379, -0.064, -9.7),
        Section(0.889, 0.07, 0.229, 0.269, -0.051, -7.9),
        Section(1.047, 0.151, 0.145, 0.136, -0.036, -5.9),
        Section(1.184, 0.192, 0.12, 0.068, -0.018, -3.8),
        Section(1.308, 0.22, 0.118, 0.046, 0.0, -1.6),
        Section(1.408, 0.239, 0.116, 0.034, 0.018, 0.6),
        Section(1.415, 0.227, 0.0, 0.0, 0.036, 2.8),
    ),
    reliefs=(
        Relief(0.44, 0.85, 35.0, 106.0, 0.06, taper=55.0, softness=0.4),  # folded wing
        Relief(0.60, 0.71, 115.0, 165.0, 0.06, softness=0.9),  # tucked leg
    ),
)
"""Measures of the bird, in the unit of CMR's structure from motion; fitted by ``examples/fit_template.py``."""

BIRD_PARTS = {
    "back": (0.514, 0.0),
    "beak": (0.044, 0.0),
    "belly": (0.564, 180.0),
    "breast": (0.435, 180.0),
    "crown": (0.324, 0.0),
    "forehead": (0.186, 0.0),
    "left eye": (0.228, 60.0),
    "left leg": (0.665, 148.0),
    "left wing": (0.564, 69.0),
    "nape": (0.435, 0.0),
    "right eye": (0.228, -60.0),
    "right leg": (0.665, -148.0),
    "right wing": (0.564, -69.0),
    "tail": (0.951, 0.0),
    "throat": (0.228, 180.0),
}
"""Place along the bird and angle around it, in degrees, of CUB's parts in CUB's order."""


def bird() -> Template:
    """Give the built-in template of a bird: standing, wings folded, beak towards -y.

    Returns:
        Template of about 640 vertices with the 15 parts of CUB-200-2011 in their order, in the frame and unit of
        CMR's structure-from-motion cameras; the same on each call, and the caller's own.

    Example:
        >>> template = bird()
        >>> template.part_names[1], bool(template.vertices[template.part_vertices[1], 1] < 0)
        ('beak', True)
    """
    shared = _bird()
    return shared._replace(
        **{name: value.clone() for name, value in shared._asdict().items() if name != "part_names"}
    )


@functools.cache
def _bird() -> Template:
    return build_template(BIRD, BIRD_PARTS)

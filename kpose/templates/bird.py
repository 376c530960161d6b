"""The built-in bird."""

import functools

from kpose.structures import Template
from kpose.templates.body import Body, Relief, Section
from kpose.templates.build import build_template

__all__ = ["BIRD", "BIRD_PARTS", "bird"]

BIRD = Body(
    sections=(
        Section(-0.71, -0.108, 0.0, 0.0, 0.035, 40.3),
        Section(-0.679, -0.088, 0.02, 0.025, 0.021, 37.7),
        Section(-0.631, -0.047, 0.035, 0.047, 0.007, 35.1),
        Section(-0.588, -0.016, 0.061, 0.084, -0.008, 32.5),
        Section(-0.562, 0.01, 0.154, 0.171, -0.022, 27.9),
        Section(-0.482, 0.077, 0.207, 0.229, -0.036, 21.4),
        Section(-0.389, 0.093, 0.209, 0.243, -0.05, 12.9),
        Section(-0.276, 0.046, 0.219, 0.278, -0.061, 3.5),
        Section(-0.12, -0.029, 0.3, 0.355, -0.068, -6.7),
        Section(0.133, -0.07, 0.366, 0.399, -0.069, -13.9),
        Section(0.418, -0.066, 0.368, 0.413, -0.064, -12.4),
        Section(0.683, -0.025, 0.32, 0.384, -0.055, -10.5),
        Section(0.895, 0.065, 0.227, 0.275, -0.043, -8.5),
        Section(1.049, 0.147, 0.144, 0.14, -0.029, -6.4),
        Section(1.184, 0.19, 0.118, 0.071, -0.014, -4.1),
        Section(1.308, 0.219, 0.115, 0.048, 0.002, -1.9),
        Section(1.409, 0.239, 0.113, 0.036, 0.018, 0.3),
        Section(1.416, 0.23, 0.0, 0.0, 0.034, 2.5),
    ),
    reliefs=(
        Relief(0.44, 0.85, 35.0, 106.0, 0.06, taper=55.0, softness=0.4),  # folded wing
        Relief(0.60, 0.71, 115.0, 165.0, 0.06, softness=0.9),  # tucked leg
    ),
)
"""Measures of the bird, in the unit of CMR's structure from motion; fitted by ``examples/fit_template.py``."""

BIRD_PARTS = {
    "back": (0.519, 0.0),
    "beak": (0.055, 0.0),
    "belly": (0.568, 180.0),
    "breast": (0.443, 180.0),
    "crown": (0.288, 0.0),
    "forehead": (0.159, 0.0),
    "left eye": (0.241, 60.0),
    "left leg": (0.641, 136.0),
    "left wing": (0.568, 69.0),
    "nape": (0.443, 0.0),
    "right eye": (0.241, -60.0),
    "right leg": (0.641, -136.0),
    "right wing": (0.568, -69.0),
    "tail": (0.953, 0.0),
    "throat": (0.241, 180.0),
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

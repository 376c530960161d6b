"""The built-in bird."""

import functools

from kpose.structures import Template
from kpose.templates.body import Body, Relief, Section
from kpose.templates.build import build_template

__all__ = ["BIRD", "BIRD_PARTS", "bird"]

BIRD = Body(
    sections=(
        Section(-0.70, -0.06, 0.0, 0.0),
        Section(-0.66, -0.055, 0.03, 0.03),
        Section(-0.56, 0.0, 0.07, 0.10),
        Section(-0.50, 0.07, 0.16, 0.19),
        Section(-0.38, 0.08, 0.20, 0.24),
        Section(-0.24, 0.04, 0.24, 0.28),
        Section(-0.06, -0.01, 0.33, 0.36),
        Section(0.14, -0.04, 0.36, 0.36),
        Section(0.36, -0.05, 0.34, 0.34),
        Section(0.56, -0.02, 0.27, 0.29),
        Section(0.74, 0.06, 0.18, 0.19),
        Section(0.95, 0.13, 0.13, 0.09),
        Section(1.15, 0.20, 0.12, 0.05),
        Section(1.33, 0.26, 0.12, 0.035),
        Section(1.36, 0.27, 0.0, 0.0),
    ),
    reliefs=(Relief(0.36, 0.86, 45, 118, 0.05, taper=50, softness=0.35),),
)
"""Measures of the bird, in the units of CMR's structure from motion."""

BIRD_PARTS = {
    "back": (0.5, 0.0),
    "beak": (0.0, 0.0),
    "belly": (0.5, 180.0),
    "breast": (0.4, 180.0),
    "crown": (0.25, 0.0),
    "forehead": (0.17, 0.0),
    "left eye": (0.2, 50.0),
    "left leg": (0.66, 140.0),
    "left wing": (0.6, 80.0),
    "nape": (0.37, 0.0),
    "right eye": (0.2, -50.0),
    "right leg": (0.66, -140.0),
    "right wing": (0.6, -80.0),
    "tail": (1.0, 0.0),
    "throat": (0.25, 180.0),
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

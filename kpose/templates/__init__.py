"""Templates: mean shapes of categories, built from measures or loaded from files."""

from kpose.templates.bird import bird
from kpose.templates.check import check_template
from kpose.templates.coarsen import coarsen_template
from kpose.templates.files import load_template, save_template
from kpose.templates.mesh import template_mesh
from kpose.templates.solid import Limb, body_solid, mesh_solid
from kpose.templates.wrap import Solid, wrap_solid

__all__ = [
    "Limb",
    "Solid",
    "bird",
    "body_solid",
    "check_template",
    "coarsen_template",
    "load_template",
    "mesh_solid",
    "save_template",
    "template_mesh",
    "wrap_solid",
]

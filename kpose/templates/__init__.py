"""Templates: mean shapes of categories, built from measures, made from meshes or loaded from files."""

from kpose.templates.bird import bird
from kpose.templates.check import check_template
from kpose.templates.files import load_template, save_template
from kpose.templates.measures import Limb, build_template
from kpose.templates.mesh import template_mesh
from kpose.templates.scan import template_from_mesh

__all__ = [
    "Limb",
    "bird",
    "build_template",
    "check_template",
    "load_template",
    "save_template",
    "template_from_mesh",
    "template_mesh",
]

"""Sphinx settings. The pages of the API and of the notebooks are written at every build."""

import os
import shutil
import sys
import typing
from pathlib import Path

# jaxtyping then names its types as they are written, Float[Tensor, "..."], without the module.
typing.GENERATING_DOCUMENTATION = "kpose"  # type: ignore[attr-defined]

from sphinx.application import Sphinx

import kpose

sys.path.insert(0, str(Path(__file__).parent))
import api_pages
from api_pages import write_api_pages

project = "kpose"
author = "The kpose contributors"
copyright = author
release = kpose.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_title = f"kpose {release}"
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# The notebooks are run when they have changed, in their fast setting unless KPOSE_FAST is set to nothing.
os.environ.setdefault("KPOSE_FAST", "1")
nb_execution_mode = "cache"
nb_execution_timeout = 3600
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_output_stderr = "remove"  # progress bars
nb_merge_streams = True
nb_render_image_options = {"alt": "Picture that the cell above shows"}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autosummary_generate = False
maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "returns_style")]
napoleon_use_rtype = False
napoleon_preprocess_types = False
napoleon_attr_annotations = False


def copy_notebooks() -> None:
    folder = Path(__file__).parent / "notebooks"
    folder.mkdir(exist_ok=True)
    source = Path(__file__).parents[1] / "examples" / "notebooks"
    for notebook in source.glob("*.ipynb"):
        copy = folder / notebook.name
        if not copy.exists() or copy.read_bytes() != notebook.read_bytes():  # else Sphinx would read it again
            shutil.copy(notebook, copy)
    for old in folder.glob("*.ipynb"):
        if not (source / old.name).exists():
            old.unlink(missing_ok=True)


write_api_pages(Path(__file__).parent / "api")
copy_notebooks()


def setup(app: Sphinx) -> None:
    api_pages.setup(app)

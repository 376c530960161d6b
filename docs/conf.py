"""Sphinx settings. The pages of the API and of the notebooks are written at every build."""

import importlib
import inspect
import os
import pkgutil
import shutil
import typing
from pathlib import Path

# jaxtyping then names its types as they are written, Float[Tensor, "..."], without the module.
typing.GENERATING_DOCUMENTATION = "kpose"  # type: ignore[attr-defined]

from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring

import kpose

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
html_css_files = ["tables.css"]
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


def public_modules() -> list[str]:
    """Return the modules that have a page: sub-packages and single modules."""
    names = (info.name for info in pkgutil.iter_modules(kpose.__path__, "kpose."))
    return sorted(name for name in names if not name.rpartition(".")[2].startswith("_"))


def write_api_pages() -> None:
    folder = Path(__file__).parent / "api"
    folder.mkdir(exist_ok=True)
    names = public_modules()
    for name in names:
        page = f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n   :members:\n   :show-inheritance:\n"
        (folder / f"{name}.rst").write_text(page, encoding="utf-8")
    for old in folder.glob("kpose.*.rst"):
        if old.stem not in names:
            old.unlink(missing_ok=True)


def import_public_names() -> None:
    """Import what modules import when it is asked for, which autodoc does not do."""
    for name in public_modules():
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            setattr(module, public, getattr(module, public))


def read_attribute(docstring: GoogleDocstring) -> tuple[str, list[str]]:
    """Read the text beside an attribute whole: Napoleon takes what stands before a colon for its type."""
    lines = docstring._dedent(docstring._consume_to_end())
    return "", GoogleDocstring(lines, docstring._config).lines()


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


write_api_pages()
import_public_names()
copy_notebooks()
GoogleDocstring._consume_inline_attribute = read_attribute


def add_contents(app: object, what: str, name: str, module: object, options: object, lines: list[str]) -> None:
    """Begin the page of a module with a table of its public names."""
    if what == "module" and getattr(module, "__all__", None):
        values = {public: getattr(module, public) for public in module.__all__}
        lines += ["", ".. autosummary::", "   :nosignatures:", ""]
        lines += [
            f"   {public}" for public, value in values.items() if inspect.isclass(value) or inspect.isroutine(value)
        ]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", add_contents)

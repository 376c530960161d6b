"""Sphinx settings. The API pages are written at every build from what the packages list in ``__all__``."""

import pkgutil
import typing
from pathlib import Path

# jaxtyping then names its types as they are written, Float[Tensor, "..."], without the module.
typing.GENERATING_DOCUMENTATION = "kpose"  # type: ignore[attr-defined]

import kpose

project = "kpose"
author = "The kpose contributors"
copyright = author
release = kpose.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"kpose {release}"
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
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


write_api_pages()

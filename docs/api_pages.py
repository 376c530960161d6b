"""Pages of the API: each public name of a module under the task that it is for."""

import importlib
import inspect
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import sphinx.util.typing
from sphinx.application import Sphinx
from sphinx.ext.autodoc import Options
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.util.inspect import stringify_signature

from kpose.inference import Picture

# Tasks of a module, each with the files whose public names serve it.
TASKS: dict[str, dict[str, str]] = {
    "kpose.backbones": {"": "base tiny efficientnet_lite transformers"},
    "kpose.callbacks": {"": "overlays shapes pruning compilation"},
    "kpose.cli": {"": ""},
    "kpose.data": {
        "Photographs": "photo_datamodules photo_dataset cub folder",
        "Rendered birds": "synthetic",
        "A data module of your own": "augmented_datamodule _transforms",
        "Features computed once": "feature_cache",
        "Videos with masks": "video_sequences _pictures",
    },
    "kpose.geometry": {
        "Rotations": "rotation",
        "Cameras and crops": "camera",
        "Cameras of other libraries": "interchange",
        "Masks": "_mask",
        "Meshes and points": "_mesh _sampling",
    },
    "kpose.heads": {
        "Heads of your own": "base",
        "Rotations by regression": "rotation",
        "Keypoints": "keypoint solver self_supervision",
        "The paper's keypoint head": "paper",
    },
    "kpose.inference": {
        "From a photo to a prediction": "predictor prediction",
        "Photos and masks": "photo",
        "Meshes, pages and sheets": "export viewer sheet",
        "How sure a pose is": "calibration",
    },
    "kpose.inference.segmentation": {"": "automatic segmenter network transformers"},
    "kpose.losses": {
        "Pose": "pose",
        "Heatmaps": "heatmap",
        "Silhouettes": "silhouette",
        "Appearance": "appearance",
        "Shape": "regularization",
    },
    "kpose.metrics": {"": "angular_error mask_iou viewpoint keypoint_transfer video_jaccard"},
    "kpose.network": {"": ""},
    "kpose.pipeline": {"The pipeline": "run folder", "Settings of the stages": "settings engine"},
    "kpose.pnp": {"": ""},
    "kpose.recipe": {"": ""},
    "kpose.reconstruction": {
        "Shape and texture": "reconstructor shape texture",
        "Tables of cameras": "camera_table camera_optimizer viewpoint_grid",
        "Search and choice": "camera_search camera_choice",
        "Losses of stage 2": "objective",
    },
    "kpose.rendering": {
        "Renderers": "renderer hard soft warp pytorch3d",
        "Visibility": "_visibility",
    },
    "kpose.structures": {"": ""},
    "kpose.tasks": {"": "camera_search shape_training pose shape_adaptation base schedule"},
    "kpose.templates": {
        "Use one": "bird files mesh",
        "Make one": "measures scan check",
    },
    "kpose.testing": {"": ""},
    "kpose.video": {
        "From a video to predictions": "predictor smoothing frames",
        "Trackers": "tracker overlap disk sam2 lwl",
    },
    "kpose.visualization": {
        "On a photo": "photo photo_color",
        "Meshes": "mesh animation",
        "Heatmaps, sheets and plots": "pictures scores",
    },
}
# Methods that override those of Lightning, torch and others are not listed, but for these, which users call.
CALLED = {"compute", "forward", "from_pretrained", "load_from_checkpoint", "step", "update"}
LIBRARIES = ("torch.", "torchmetrics.", "lightning", "pytorch_lightning")
PICTURE = sphinx.util.typing.stringify_annotation(Picture, "smart")


def public_values(module_name: str) -> dict[str, Any]:
    """Return the public names of a module; those that are imported when asked for become attributes of it."""
    module = importlib.import_module(module_name)
    for name in module.__all__:
        setattr(module, name, getattr(module, name))
    return {name: getattr(module, name) for name in module.__all__ if not inspect.ismodule(getattr(module, name))}


def is_listed(value: object) -> bool:
    """Check whether the value is a class or function; constants and types follow on the page."""
    return inspect.isclass(value) or inspect.isroutine(value)


PUBLIC = {value for name in TASKS for value in public_values(name).values() if inspect.isclass(value)}


def group(module_name: str) -> dict[str, list[str]]:
    """Return the names of each task; a name without a task stops the build."""
    files = {
        f"{module_name}.{file}" if file != "_pictures" else "kpose._pictures": (task, place)
        for task, listed in TASKS[module_name].items()
        for place, file in enumerate(listed.split())
    }
    found: dict[str, list[tuple[int, str]]] = {task: [] for task in TASKS[module_name]}
    for name, value in public_values(module_name).items():
        if not is_listed(value):
            continue
        if value.__module__ not in files and "" not in found:
            raise ValueError(f"{module_name}.{name} has no task. Add its file to TASKS in docs/api_pages.py.")
        task, place = files.get(value.__module__, ("", 99))
        found[task].append((place, name))
    return {task: [name for _, name in sorted(names, key=lambda item: item[0])] for task, names in found.items()}


def page(module_name: str) -> str:
    """Write the page of a module: a table for each task, and what is in it."""
    lines = [module_name, "=" * len(module_name), "", f".. automodule:: {module_name}", ""]
    values = public_values(module_name)
    for task, names in group(module_name).items():
        if task:
            lines += [task, "-" * len(task), ""]
        lines += [f".. currentmodule:: {module_name}", "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [*(f"   {name}" for name in names), ""]
        for name in names:
            if inspect.isclass(values[name]):
                lines += [f".. autoclass:: {name}", "   :members:", "   :special-members: __call__"]
                lines += ["   :show-inheritance:"] if named_bases(values[name]) else []
            else:
                lines += [f".. autofunction:: {name}"]
            lines.append("")
    constants = [name for name, value in values.items() if not is_listed(value)]
    if constants:
        lines += ["Constants and types", "-------------------", ""]
        lines += [line for name in constants for line in (f".. autodata:: {name}", "")]
    return "\n".join(lines)


def write_api_pages(folder: Path) -> None:
    """Write the pages of all modules; those that are as they were keep their time."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("kpose.*.rst"):
        if old.stem not in TASKS:
            old.unlink(missing_ok=True)
    for name in TASKS:
        file, text = folder / f"{name}.rst", page(name)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def named_bases(value: type) -> list[type]:
    """Return the bases that tell a reader something: public ones of kpose, and those of libraries."""
    found = []
    for base in value.__bases__:
        if base.__module__.startswith("kpose"):
            plumbing = base not in PUBLIC or base.__module__ == "kpose.recipe"
            found += named_bases(base) if plumbing else [base]
        elif base.__module__.startswith(LIBRARIES):
            found.append(base)
    return list(dict.fromkeys(found))


def list_members() -> None:
    """Give classes the methods of bases that have no page, so that they are listed, and fields their own text."""
    for value in PUBLIC:
        for name in getattr(value, "__dataclass_fields__", {}):
            if inspect.isclass(vars(value).get(name)):  # Sphinx would take the default for the class that it is
                delattr(value, name)
        for base in value.__mro__[1:]:
            if base.__module__.startswith("kpose") and base not in PUBLIC:
                for name, member in vars(base).items():
                    if not name.startswith("_") and name not in vars(value) and callable(member):
                        setattr(value, name, member)


def show_bases(app: Sphinx, name: str, obj: type, options: Options, bases: list[Any]) -> None:
    """Name the bases that tell something."""
    bases[:] = named_bases(obj)


def skip_hooks(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Options) -> bool | None:
    """Leave out what a library calls: its hooks, and how a part is recorded."""
    member = inspect.unwrap(getattr(obj, "fget", None) or getattr(obj, "__func__", obj))
    owner: Any = sys.modules.get(getattr(member, "__module__", None) or "")
    for part in getattr(member, "__qualname__", "").split(".")[:-1]:
        owner = getattr(owner, part, None)
    if not inspect.isclass(owner) or name in CALLED:
        return None
    above = [base for base in owner.__mro__[1:] if base is not object and name in vars(base)]
    foreign = [base for base in above if not base.__module__.startswith("kpose")]
    return True if foreign or name == "recorded_arguments" else None


def show_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Options, signature: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """Show the arguments that a class takes, where a base class hides them, and no addresses of objects."""
    if signature is None:
        return None
    if what == "class" and signature.startswith("(*args"):
        taken = inspect.signature(obj.__init__)
        own = obj.__init__.__module__.startswith("kpose")
        parameters = list(taken.parameters.values())[1:] if own else []
        signature = stringify_signature(
            taken.replace(parameters=parameters, return_annotation=inspect.Signature.empty),
            unqualified_typehints=True,
        )
        signature = "()" if signature.startswith("(*args") else signature
    signature = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", signature).replace("<factory>", "...")
    return signature, returns


def read_attribute(docstring: GoogleDocstring) -> tuple[str, list[str]]:
    """Read the text beside an attribute whole: Napoleon takes what stands before a colon for its type."""
    lines = docstring._dedent(docstring._consume_to_end())
    return "", GoogleDocstring(lines, docstring._config).lines()


def read_returns(docstring: GoogleDocstring, preprocess_types: bool = False) -> list[tuple[str, str, list[str]]]:
    """Read what is returned, or a source, whole, for the same reason."""
    return [("", "", docstring._dedent(docstring._consume_to_next_section()))]


def show_picture(annotation: Any, *args: Any, **options: Any) -> str:
    """Name the type of what is taken for a picture, in place of its five members."""
    return _stringify(annotation, *args, **options).replace(PICTURE, "~kpose.inference.Picture")


_stringify = sphinx.util.typing.stringify_annotation


FAST_NOTE = """:::{note}
These outputs come from the fast setting (`KPOSE_FAST=1`), which runs every cell on a few small pictures. Without
it, the notebook takes up to ten minutes, and what is learned is worth a look.
:::"""


def show_as_read(app: Sphinx, name: str, source: list[str]) -> None:
    """Show a folder where the tests take one of pytest's, and no empty line at the end of snippets.

    Notebooks that were run in their fast setting say so.
    """
    if name.startswith("notebooks/") and os.environ.get("KPOSE_FAST"):
        notebook = json.loads(source[0])
        note = {"cell_type": "markdown", "id": "fast", "metadata": {}, "source": FAST_NOTE}
        notebook["cells"].insert(1, note)
        source[0] = json.dumps(notebook)
    source[0] = source[0].replace('getfixture("tmp_path")', 'Path("results")').replace("\n\n```\n", "\n```\n")


def show_folder_of_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: Options, lines: list[str]
) -> None:
    """Show a folder where the tests take one of pytest's."""
    lines[:] = [line.replace('getfixture("tmp_path")', 'Path("results")') for line in lines]


def setup(app: Sphinx) -> None:
    """Connect all this to Sphinx."""
    for module in list(sys.modules.values()):
        if module and module.__name__.startswith("sphinx") and hasattr(module, "stringify_annotation"):
            module.stringify_annotation = show_picture
    GoogleDocstring._consume_inline_attribute = read_attribute
    GoogleDocstring._consume_returns_section = read_returns
    list_members()
    app.connect("autodoc-process-bases", show_bases)
    app.connect("autodoc-skip-member", skip_hooks)
    app.connect("autodoc-process-signature", show_signature)
    app.connect("autodoc-process-docstring", show_folder_of_docstring)
    app.connect("source-read", show_as_read)

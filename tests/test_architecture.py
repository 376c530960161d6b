"""Rules about modules: imports point down, files stay short, and importing kpose costs little.

The layers are read from the docstring of `kpose`, so that what people read is what is checked.
"""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kpose"
FILES = sorted(PACKAGE.rglob("*.py"))
LIGHTNING = {"pytorch_lightning", "lightning", "lightning_fabric"}
LIGHTNING_ALLOWED = {"tasks", "callbacks", "cli", "data", "pipeline"}
OPTIONAL = {
    "av", "cv2", "gradio", "matplotlib", "onnx", "onnxscript", "poselib", "pytorch3d", "scipy", "skimage", "wandb",
    "warp",
}  # fmt: skip
NEVER = {"torchvision", "timm"}
PLUMBING = {
    "__main__", "_checkpoint", "_cropping", "_distributed", "_export", "_files", "_limits", "_messages",
    "_pictures", "_precision",
}  # fmt: skip
"""Modules that are no part of the public namespace."""
NEEDS_EXTRA = {"kpose.rendering.warp_kernels", "kpose.templates.voxels"}
"""Modules that nothing imports unless their extra is there."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """Return the name under kpose that a module belongs to: 'heads' for 'kpose.heads.base'."""
    return module.split(".")[1] if "." in module else ""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(node: ast.AST, module: str, is_package: bool) -> set[str]:
    """Return every module that is imported anywhere below a node, absolute."""
    found = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                parents = module.split(".")
                kept = parents[: len(parents) - child.level + is_package]
                base = ".".join([*kept, base] if base else kept)
            # `from kpose import heads` imports a module as well; names that are none are harmless here.
            found |= {f"kpose.{alias.name}" for alias in child.names} if base == "kpose" else {base}
    return found


@cache
def imports_of(path: Path) -> set[str]:
    return imports(tree(path), module_name(path), path.name == "__init__.py")


def layers() -> dict[str, tuple[int, int]]:
    """Read the diagram: name to (line from the bottom, position on the line)."""
    docstring = ast.get_docstring(tree(PACKAGE / "__init__.py"))
    assert docstring is not None
    diagram = docstring.split("::\n", 1)[1].strip("\n")
    lines = [line.split() for line in re.split(r"\n\s*\n", diagram)[0].splitlines()]
    return {name: (rank, place) for rank, line in enumerate(reversed(lines)) for place, name in enumerate(line)}


LAYERS = layers()


def violations(module: str, imported: set[str]) -> list[str]:
    """Return the imports of a module that point up, or to the right on the module's own line."""
    part = part_of(module)
    targets = {part_of(name) for name in imported if name.startswith("kpose.")} & LAYERS.keys()
    rank, place = LAYERS[part]
    return sorted(
        target
        for target in targets - {part}
        if LAYERS[target][0] > rank or (LAYERS[target][0] == rank and LAYERS[target][1] > place)
    )


def test_every_part_has_a_layer():
    parts = {part_of(module_name(path)) for path in FILES} - {""}
    unknown = sorted(parts - LAYERS.keys())
    assert not unknown, f"kpose/__init__.py draws the layers, but not {unknown}. Add them to its docstring."


def test_imports_point_down():
    for path in FILES:
        module = module_name(path)
        if module == "kpose":
            at_once = ast.Module(
                [node for node in tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)], []
            )
            assert not {name for name in imports(at_once, module, True) if name.startswith("kpose")}, (
                "kpose must import nothing of itself until it is asked to"
            )
            continue
        upward = violations(module, imports_of(path))
        assert not upward, f"{module} must not import {upward}: imports point down only, see kpose/__init__.py"


def test_other_packages_are_imported_by_their_faces():
    """Or by a module with a leading underscore: what it holds is shared within kpose, and promised to nobody."""
    for path in FILES:
        module = module_name(path)
        places = [name.split(".")[1:] for name in imports_of(path) if name.startswith("kpose.")]
        past = [
            ".".join(place)
            for place in places
            if place[0] != part_of(module) and len(place) > 1 and place[-1][0] != "_"
            if not PACKAGE.joinpath(*place, "__init__.py").is_file()
        ]
        assert not past, (
            f"{module} imports from {past}; take it from the package, or name the module with an underscore"
        )


def test_an_upward_import_is_found():
    node = ast.parse("from kpose.heads import PoseHead\nfrom ..tasks import pose\nimport torch")
    assert violations("kpose.geometry.camera", imports(node, "kpose.geometry.camera", False)) == ["heads", "tasks"]
    assert violations("kpose.cli", imports(node, "kpose.cli", False)) == []


def test_file_is_short_and_well_named():
    for path in FILES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 400, f"{module_name(path)} has {lines} lines; split it by idea, 400 is the limit"
        assert path.stem not in {"utils", "util", "helpers", "common", "misc"}, (
            f"{path.name} says nothing of its content"
        )


def test_tests_mirror_the_package():
    """Contracts of `kpose.testing` are run over all implementations in tests/contracts."""
    modules = [path.relative_to(PACKAGE) for path in FILES if not path.stem.startswith("__")]
    folders = {Path("testing"): Path("contracts")}
    expected = [folders.get(path.parent, path.parent) / f"test_{path.name.lstrip('_')}" for path in modules]
    missing = [path.as_posix() for path in expected if not (ROOT / "tests" / path).is_file()]
    assert not missing, f"tests/ lacks {missing}; the tests of kpose/a/b.py are in tests/a/test_b.py"


def test_nothing_prints():
    for path in FILES:
        calls = [
            node.lineno
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        ]
        assert not calls, f"{module_name(path)} prints on lines {calls}; use logging, or return the text"


def test_lightning_stays_in_its_layers():
    for path in FILES:
        part = part_of(module_name(path))
        used = {name.split(".")[0] for name in imports_of(path)} & LIGHTNING
        assert not used or part in LIGHTNING_ALLOWED, (
            f"{module_name(path)} imports Lightning; only {sorted(LIGHTNING_ALLOWED)} may"
        )
        assert "lightning" not in used, f"{module_name(path)}: Lightning's import name here is pytorch_lightning"


def test_imports_are_declared():
    """What a module imports at its top comes with kpose, extras are imported where they are used."""
    for path in FILES:
        top = ast.Module([node for node in tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        module = module_name(path)
        roots = {name.split(".")[0] for name in imports(top, module, path.name == "__init__.py")}
        everywhere = {name.split(".")[0] for name in imports_of(path)}
        assert not everywhere & NEVER, f"{module} imports {sorted(everywhere & NEVER)}, which kpose does without"
        if module not in NEEDS_EXTRA:
            assert not roots & OPTIONAL, f"{module} imports the extra {sorted(roots & OPTIONAL)} at its top"
        foreign = roots - set(sys.stdlib_module_names) - {"kpose"} - OPTIONAL
        undeclared = sorted(foreign - declared())
        assert not undeclared, f"{module} imports {undeclared}, which pyproject.toml does not list in dependencies"


@cache
def declared() -> set[str]:
    """Return the import names of kpose's own dependencies."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[$(.*?)^\]$", text, flags=re.M | re.S)
    assert block is not None
    names = re.findall(r'^    "([A-Za-z0-9_.-]+)', block[1], flags=re.M)
    found = {{"pillow": "PIL", "PyYAML": "yaml"}.get(name, name.replace("-", "_")) for name in names}
    return found | {"lightning_fabric"}  # the wheel of pytorch-lightning has both packages


def run(code: str, *arguments: str) -> dict:
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_import_kpose_is_light():
    loaded = run(
        "import sys, json; old = set(sys.modules); import kpose; print(json.dumps(sorted(set(sys.modules) - old)))"
    )
    heavy = {"torch", "numpy", "pytorch_lightning", "kornia", "transformers"} & set(loaded)
    assert not heavy, f"`import kpose` loads {sorted(heavy)}"
    assert len(loaded) < 150, f"`import kpose` loads {len(loaded)} modules"


def test_every_name_of_kpose_is_there_whatever_was_imported_before(tmp_path):
    """In a new process each, in both directions: a name must not depend on what was touched before it."""
    code = (
        "import os, sys, json\n"
        "import numpy, torch, pytorch_lightning, kornia  # once for both processes; nothing of kpose\n"
        "assert 'kpose' not in sys.modules\n"
        "if reverse := os.fork() == 0: sys.stdout = open(sys.argv[1], 'w')\n"
        "import kpose\n"
        "names = sorted(dir(kpose), reverse=reverse)\n"
        "print(json.dumps({name: type(getattr(kpose, name)).__name__ for name in names}))\n"
        "if not reverse: assert os.wait()[1] == 0"
    )
    found = run(code, str(tmp_path / "reverse.json"))
    assert json.loads((tmp_path / "reverse.json").read_text()) == found
    packages = {name for name, kind in found.items() if kind == "module"}
    assert packages == {part_of(module_name(path)) for path in FILES} - {""} - PLUMBING


def test_names_of_kpose_are_those_that_a_type_checker_sees():
    module = tree(PACKAGE / "__init__.py")
    checked = next(node for node in module.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module.removeprefix("kpose.")
        for node in ast.walk(checked)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    import kpose

    assert seen == kpose._NAMES
    assert {*kpose._NAMES, "__version__"} == set(kpose.__all__)


def test_modules_import_without_extras_and_those_of_predicting_without_lightning():
    packages = [module_name(path) for path in FILES if path.name == "__init__.py"]
    predicting = [name for name in packages if part_of(name) not in LIGHTNING_ALLOWED - {"data"} | {""}]
    others = {module_name(path) for path in FILES if path.stem != "__main__"} - {*predicting, *NEEDS_EXTRA}
    names = predicting + sorted(others)
    # Not without matplotlib and SciPy: torchmetrics imports them wherever they are installed, hidden or not.
    code = (
        "import sys, json, importlib\n"
        f"for name in {sorted((OPTIONAL - {'matplotlib', 'scipy'}) | NEVER)!r}: sys.modules[name] = None\n"
        "failed = {}\n"
        f"for name in {names!r}:\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError as error: failed[name] = str(error)\n"
        f"    if name == {predicting[-1]!r}: lightning = 'pytorch_lightning' in sys.modules\n"
        "print(json.dumps({'failed': failed, 'lightning': lightning}))"
    )
    found = run(code)
    assert found["failed"] == {}
    assert not found["lightning"], f"one of {predicting} loads Lightning through what it imports"

"""Public names disappear on purpose only.

The names are recorded in ``api_surface.json``; ``make api`` (``python tests/test_api.py``) records them again.
"""

import importlib
import json
import pkgutil
from pathlib import Path

import pytest

RECORD = Path(__file__).with_name("api_surface.json")


def modules() -> list[str]:
    """Return the modules that users import from: sub-packages and single modules."""
    import kpose

    names = [f"kpose.{info.name}" for info in pkgutil.iter_modules(kpose.__path__) if not info.name.startswith("_")]
    return ["kpose", *sorted(names)]


def surface() -> dict[str, list[str]]:
    return {name: list(importlib.import_module(name).__all__) for name in modules()}


@pytest.mark.parametrize("name", modules())
def test_all_is_sorted_and_real(name):
    module = importlib.import_module(name)
    assert hasattr(module, "__all__"), f"{name} needs an explicit __all__"
    # Constants, classes, functions: ruff's order (RUF022).
    ordered = sorted(module.__all__, key=lambda entry: (not entry.isupper(), not entry[0].isupper(), entry))
    assert ordered == list(module.__all__), f"{name}.__all__ is not sorted"
    assert len(set(module.__all__)) == len(module.__all__), f"{name}.__all__ repeats a name"
    missing = [entry for entry in module.__all__ if not hasattr(module, entry)]
    assert not missing, f"{name}.__all__ lists {missing}, which it does not define"


def test_no_public_name_disappears():
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    now = surface()
    gone = {
        name: sorted(set(entries) - set(now.get(name, [])))
        for name, entries in recorded.items()
        if set(entries) - set(now.get(name, []))
    }
    assert not gone, (
        f"These public names are gone: {gone}. Keep the old name for one minor version with a DeprecationWarning, "
        "or, if it was never released, run `make api` and say so in CHANGELOG.md."
    )


def test_new_names_are_recorded():
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    new = {
        name: sorted(set(entries) - set(recorded.get(name, [])))
        for name, entries in surface().items()
        if set(entries) - set(recorded.get(name, []))
    }
    assert not new, f"These public names are new: {new}. Run `make api` to promise them."


if __name__ == "__main__":
    RECORD.write_text(json.dumps(surface(), indent=2) + "\n", encoding="utf-8")

"""The page of ``kpose predict``: all pictures to choose from, and the page of each mesh beside them."""

import html
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from kpose._files import write_text
from kpose._messages import counted
from kpose.cli.results import SHEET, is_marked, read_record

__all__ = ["write_page"]


def write_page(folder: Path, failures: Mapping[Path, str]) -> Path:
    """Write ``index.html``, which shows all results of a folder."""
    records = [(path.stem, read_record(path)) for path in sorted(folder.glob("*.json"))]
    cards = [_card(name, record) for name, record in records if record and _is_whole(folder, name)]
    template = Template((files("kpose.cli") / "index.html").read_text(encoding="utf-8"))
    page = folder / "index.html"
    sheet = f' <a href="{SHEET}">The first ones on a sheet.</a>' if is_marked(folder / SHEET) else ""
    parts = {"cards": "\n".join(cards), "failures": _list(failures), "sheet": sheet}
    write_text(page, template.substitute(count=counted(len(cards), "photo"), **parts))
    return page


def _is_whole(folder: Path, name: str) -> bool:
    return all((folder / path).exists() for path in (f"{name}_overlay.png", f"viewer/{name}.html"))


def _card(name: str, record: Mapping[str, Any]) -> str:
    text, link = html.escape(name), quote(name)
    notes = "" if record.get("valid", True) else "<em>too few keypoints agreed</em>"
    if record.get("score") is not None:
        notes += f" score {record['score']:.2f}, about {record['expected_error_deg']:.0f}° off"
    if record.get("box") is None:
        notes += " <em>whole frame</em>"
    turntable = f"{name}_turntable.gif"
    turning = f' <a href="{quote(turntable)}">turntable</a>' if turntable in record.get("files", {}) else ""
    return (
        f'<figure><button type="button" data-mesh="viewer/{link}.html" data-name="{text}">'
        f'<img src="{link}_overlay.png" alt="{text}" loading="lazy"></button>'
        f'<figcaption>{text} <a href="{link}.glb">glb</a> <a href="{link}.json">json</a>{turning} {notes}'
        "</figcaption></figure>"
    )


def _list(failures: Mapping[Path, str]) -> str:
    rows = "".join(
        f"<li><b>{html.escape(str(path))}</b>: {html.escape(line)}</li>" for path, line in failures.items()
    )
    return f"<h2>Could not be used</h2><ul>{rows}</ul>" if rows else ""

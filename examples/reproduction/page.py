"""Pages with generated figures: what lies between two marks is written from a JSON file.

A block stands between ``<!-- figures: FILE.json -->`` and ``<!-- end of figures -->``; files are found from the
folder of the page. ``make results`` writes those of the pages in ``docs`` anew.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ablation_markdown import ablations_markdown
from markdown import table1_markdown
from video_markdown import table2_markdown

__all__ = ["refreshed_page"]

WRITERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "ablations": ablations_markdown,
    "table1": table1_markdown,
    "table2": table2_markdown,
}
BLOCK = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def refreshed_page(page: Path) -> str:
    """Write the blocks of a page anew.

    Args:
        page: Markdown file.

    Returns:
        Its text with the figures as they are now; the file is left alone.

    Raises:
        FileNotFoundError: If there is no such page or file of figures.
        ValueError: If a file of figures holds no table that is known.
    """

    def block(match: re.Match[str]) -> str:
        figures = json.loads((page.parent / match[2]).read_text(encoding="utf-8"))
        if figures.get("table") not in WRITERS:
            raise ValueError(
                f"{page} needs figures of {' or '.join(WRITERS)}; {match[2]} holds {figures.get('table')!r}. Take "
                "the JSON file that the script of the table has written."
            )
        return f"{match[1]}\n{WRITERS[figures['table']](figures)}\n{match[3]}"

    return BLOCK.sub(block, page.read_text(encoding="utf-8"))

"""Write the generated figures of the pages in docs anew from the JSON files in docs/results/."""

from pathlib import Path

from kpose.files import write_text

from page import refreshed_page

for page in sorted((Path(__file__).parents[2] / "docs").glob("*.md")):
    text = page.read_text(encoding="utf-8")
    fresh = refreshed_page(page)
    if fresh != text:
        write_text(page, fresh)

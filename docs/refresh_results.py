"""Write the generated figures of the pages beside this file anew from the JSON files in results/."""

from pathlib import Path

from kpose.files import write_text
from kpose.reproduction import refreshed_page

for page in sorted(Path(__file__).parent.glob("*.md")):
    text = page.read_text(encoding="utf-8")
    fresh = refreshed_page(page)
    if fresh != text:
        write_text(page, fresh)

"""Write the generated figures of results.md anew from the JSON files in results/."""

from pathlib import Path

from kpose.files import write_text
from kpose.reproduction import refreshed_page

page = Path(__file__).with_name("results.md")
write_text(page, refreshed_page(page))

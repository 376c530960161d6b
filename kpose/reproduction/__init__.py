"""The tables of the paper, computed anew: one command each, with the paper's rows beside ours."""

from kpose.reproduction.markdown import table1_csv, table1_markdown
from kpose.reproduction.origin import origin
from kpose.reproduction.page import refreshed_page
from kpose.reproduction.table1 import Table1

__all__ = ["Table1", "origin", "refreshed_page", "table1_csv", "table1_markdown"]

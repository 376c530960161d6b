"""The tables of the paper, computed anew: one command each, with the paper's rows beside ours."""

from kpose.reproduction.ablation_markdown import ablations_markdown
from kpose.reproduction.markdown import table1_csv, table1_markdown
from kpose.reproduction.origin import origin
from kpose.reproduction.page import refreshed_page
from kpose.reproduction.table1 import Table1
from kpose.reproduction.table2 import Table2
from kpose.reproduction.tracks import ScoredSequence, score_sequence
from kpose.reproduction.video_markdown import table2_csv, table2_markdown

__all__ = [
    "ScoredSequence",
    "Table1",
    "Table2",
    "ablations_markdown",
    "origin",
    "refreshed_page",
    "score_sequence",
    "table1_csv",
    "table1_markdown",
    "table2_csv",
    "table2_markdown",
]

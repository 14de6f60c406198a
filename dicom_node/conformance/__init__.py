"""The DICOM Conformance Statement (PS3.2): a text with tables that are made from the tables the code runs on.

docs/conformance.md is what `statement` returns; a test compares them.
"""

import re
from pathlib import Path

from dicom_node.conformance.tables import TABLES

__all__ = ["TABLES", "statement"]

TEXT = Path(__file__).with_name("statement.md")
PLACE = re.compile(r"^\{\{ (\w+) \}\}$", re.MULTILINE)


def statement() -> str:
    """Return the statement as Markdown.

    Raises
    ------
    KeyError
        When the text names a table that nobody makes.
    """
    return PLACE.sub(lambda found: TABLES[found[1]](), TEXT.read_text(encoding="utf-8"))

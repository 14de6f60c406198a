"""``osteonode segmenters``."""

import argparse

from rich.console import Console
from rich.table import Table

from dicom_node.segmenters.table import SEGMENTERS, State, states
from dicom_node.settings import Settings

CHECKSUM_SHOWN = 12


def list_segmenters(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print every segmenter, how it stands on this machine, and what to do where it lacks something."""
    del options
    found = states(settings)
    table = Table("name", "finds", "state", "version", "SHA-256")
    for one in found:
        chosen = " (set)" if one.name == settings.segmenter else ""
        table.add_row(f"{one.name}{chosen}", SEGMENTERS[one.name].finds, one.word, *_identity(one))
    console.print(table)
    for one in found:
        if one.sentence:
            console.print(f"{one.name}: {one.sentence}", highlight=False, markup=False)


def _identity(state: State) -> tuple[str, str]:
    if state.identity is None:
        return "", ""
    return f"{state.identity.name} {state.identity.version}", state.identity.checksum[:CHECKSUM_SHOWN]

"""``osteonode serve``."""

import argparse
import os
import sys

from rich.console import Console

from dicom_node import node
from dicom_node.settings import Settings


def serve(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Run the node until it is told to stop."""
    del options
    console.print(
        f"OsteoNode: DICOM {settings.ae_title} on port {settings.dicom_port}, "
        f"page at http://{settings.web_host}:{settings.web_port}/",
        highlight=False,
    )
    node.serve(settings)
    # A step that is under way would hold the interpreter until it ends. It goes on after the next start, as after a
    # crash, so the process ends here; every database has been closed.
    sys.stdout.flush()
    os._exit(0)

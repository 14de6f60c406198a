"""``osteonode demo`` and ``fetch-data``."""

import argparse
import signal
import sys

from rich.console import Console

from dicom_node.demo.run import run_demo
from dicom_node.public_data import SOURCES, fetch
from dicom_node.settings import Settings


def demo(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Run the demonstration; it uses settings of its own."""
    del settings
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that node and PACS are stopped too
    run_demo(options.out, console)


def fetch_data(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Download the public scans."""
    del settings, options
    for name in SOURCES:
        console.print(f"{name}: {fetch(name, console.print)}", highlight=False)

"""``osteonode analyse``."""

import argparse

from rich.console import Console

from dicom_node.pipeline.standalone import analyse_study_folder
from dicom_node.settings import Settings


def analyse(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Analyse one study from a folder, without network or database."""
    mask = None if options.mask is None else (options.mask, options.labels)
    analyse_study_folder(options.folder, options.out, settings, console, mask)

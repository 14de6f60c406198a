"""``osteonode analyse``."""

import argparse

from rich.console import Console

from dicom_node.errors import ConfigurationError
from dicom_node.pipeline.standalone import analyse_study_folder
from dicom_node.segmenters.table import entry_of
from dicom_node.settings import Settings


def analyse(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Analyse one study from a folder, without network or database."""
    mask = None if options.mask is None else (options.mask, options.labels)
    if options.segmenter is not None:
        if mask is not None:
            raise ConfigurationError("--mask and --segmenter exclude one another: both find the bones.")
        entry_of(options.segmenter)
        settings = settings.model_copy(update={"segmenter": options.segmenter})
    analyse_study_folder(options.folder, options.out, settings, console, mask)

"""``osteonode migrate``, ``settings``, ``describe-deid`` and ``conformance``."""

import argparse

from rich.console import Console

from deid_rules.describe import describe
from dicom_node.conformance import statement
from dicom_node.db.session import migrate
from dicom_node.pipeline.site_profile import load_profile
from dicom_node.settings import Settings


def migrate_databases(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Bring the databases to the newest schema."""
    del options
    migrate(settings)
    console.print("The databases have the newest schema.")


def show_settings(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print the settings in force as JSON."""
    del options
    console.print_json(settings.model_dump_json())


def describe_deid(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print what de-identification removes, replaces and keeps."""
    del options
    console.print(describe(load_profile(settings.recipe_file)), markup=False, highlight=False)


def show_conformance(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print the DICOM Conformance Statement as Markdown."""
    del settings, options
    console.file.write(statement())

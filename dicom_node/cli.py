"""The command ``osteonode``: reads the settings once and runs one subcommand.

A subcommand is a row: its words, its help and the function that runs it, imported when it is needed so that
``osteonode --help`` answers at once.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from dicom_node import __version__
from dicom_node.arguments.network import add_delivery, add_import, add_peer, add_request, add_routing
from dicom_node.arguments.privacy import add_audit, add_deid, add_idmap
from dicom_node.arguments.science import add_calibrate, add_evaluate, add_fe, add_train
from dicom_node.arguments.table import row
from dicom_node.arguments.work import add_job
from dicom_node.errors import NodeError
from dicom_node.logs import configure_logging
from dicom_node.settings import CONFIG_VARIABLE, Settings

PIPE_WIDTH = 140
"""Columns of tables where the output is no terminal."""

AUDITED = ("peers", "routing", "deliveries", "jobs", "requests")
"""Modules whose commands the audit tells of; the others do so themselves, or change nothing."""

Run = Callable[[Settings, argparse.Namespace, Console], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; return the exit code (0 done, 1 an error of the node, 2 wrong usage or settings)."""
    os.umask(0o077)  # everything the node writes is for its own user alone
    options = _parser().parse_args(arguments)
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if options.config:
        os.environ[CONFIG_VARIABLE] = str(options.config)
    try:
        settings = Settings()
        configure_logging(settings.log_level, settings.log_format)
        _load(options.run)(settings, options, console)
        if options.run.partition(":")[0] in AUDITED:
            importlib.import_module("dicom_node.commands.operator").tell_of_command(settings, options.run, options)
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            console.print(f"[red]{'.'.join(map(str, problem['loc']))}:[/] {escape(problem['msg'])}", highlight=False)
        return 2
    except NodeError as error:
        console.print(f"[red]Error:[/] {escape(str(error))}", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _load(path: str) -> Run:
    module, function = path.split(":")
    run: Run = getattr(importlib.import_module(f"dicom_node.commands.{module}"), function)
    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="osteonode",
        description="Bone density and bone strength for every CT that shows a hip or a spine.",
    )
    parser.add_argument("--version", action="version", version=f"osteonode {__version__}")
    parser.add_argument("--config", type=Path, help="TOML file with settings (environment OSTEONODE_... wins)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    row(commands, "serve", "run the node: DICOM service, jobs, web page", "serve:serve")
    analyse = row(
        commands,
        "analyse",
        "analyse the CT of one study in a folder, without network or database",
        "analyse:analyse",
    )
    analyse.add_argument("folder", type=Path, help="folder with the DICOM files of one study")
    analyse.add_argument("--out", type=Path, required=True, help="new or empty folder for the results")
    analyse.add_argument("--mask", type=Path, metavar="FILE", help="bones found elsewhere: SEG, RTSTRUCT or label map")
    analyse.add_argument(
        "--labels", choices=("osteonode", "totalsegmentator"), default="osteonode", help="values of a label map"
    )
    analyse.add_argument("--segmenter", metavar="NAME", help="what finds the bones (default: the setting's)")
    demo = row(commands, "demo", "run the main job on a real public CT, with a PACS beside the node", "demo:demo")
    demo.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for everything the demo makes")

    add_peer(commands)
    add_delivery(commands)
    add_fe(commands)
    add_calibrate(commands)
    add_evaluate(commands)
    add_train(commands)
    add_import(commands)
    add_deid(commands)
    add_idmap(commands)
    add_routing(commands)
    add_request(commands)
    add_job(commands)
    add_audit(commands)
    row(commands, "segmenters", "list what can find bones here, and what it lacks", "segmenters:list_segmenters")
    row(commands, "migrate", "bring the databases to the newest schema", "maintenance:migrate_databases")
    row(commands, "settings", "print the settings in force as JSON", "maintenance:show_settings")
    row(commands, "describe-deid", "print the de-identification profile in words", "maintenance:describe_deid")
    row(commands, "fetch-data", "download the public scans of the demo and the tests", "demo:fetch_data")
    return parser


if __name__ == "__main__":
    sys.exit(main())

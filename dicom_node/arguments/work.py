"""Arguments of what runs: jobs and workers."""

import argparse

from dicom_node.arguments.table import count, row

JOB_STATES = ("submitted", "pending", "processing", "open", "done", "failed", "discarded")
JOB_STEPS = ("deidentify", "analyse", "package", "deliver")
PRIORITIES = ("urgent", "normal", "offpeak")
"""As in ``dicom_node.db.models`` and ``dicom_node.db.job_control`` (tested), which take a second to import."""


def add_job(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: jobs and workers."""
    row(commands, "worker", "run jobs beside the node, on this host or another one (PostgreSQL)", "jobs:work")
    job = commands.add_parser("job", help="list, show, pause, resume, cancel, restart, release or prioritise jobs")
    actions = job.add_subparsers(required=True, metavar="ACTION")
    listing = row(actions, "list", "list the newest jobs", "jobs:list_jobs")
    listing.add_argument("--state", choices=JOB_STATES, help="only jobs in this state")
    listing.add_argument("--last", type=count, default=50, metavar="N", help="jobs to list (default 50)")
    row(actions, "show", "print a job and what happened to it", "jobs:show").add_argument("job", metavar="JOB")
    for words, text in (
        ("pause", "let no further step of a job begin, or none on the node: all"),
        ("resume", "let a job, or the node (all), go on"),
        ("cancel", "end a job at once, or every job that waits or runs: all"),
    ):
        row(actions, words, text, f"jobs:{words}").add_argument("job", metavar="JOB|all")
    actions.choices["cancel"].add_argument("--yes", action="store_true", help="cancel them all")
    restart = row(actions, "restart", "run a job that has ended again, as a new attempt", "jobs:restart")
    restart.add_argument("job", metavar="JOB")
    restart.add_argument("--step", default="deidentify", choices=JOB_STEPS, help="first step (default: deidentify)")
    release = row(actions, "release", "let a job that waits for an operator go on", "jobs:release")
    release.add_argument("job", metavar="JOB")
    release.add_argument("--discard", action="store_true", help="end it instead; nothing is sent")
    first = row(actions, "prioritise", "set the priority of a job", "jobs:prioritise")
    first.add_argument("job", metavar="JOB")
    first.add_argument("priority", choices=PRIORITIES)

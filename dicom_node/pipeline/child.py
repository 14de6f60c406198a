"""The child process of the heavy steps: ``python -m dicom_node.pipeline.child``.

``analyse`` runs on the research side and sees clean instances only; ``package`` runs on the hospital side and puts
the results under the original headers.
"""

from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from dicom_node.jobs.child import Progress, serve_child
from dicom_node.logs import configure_logging
from dicom_node.pipeline.analysis import analyse_folder, load_tools
from dicom_node.pipeline.packaging import Before, package
from dicom_node.pipeline.prior import PriorReport


def work(task: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Do one task."""
    configure_logging(task["log_level"], task["log_format"])
    if task["action"] == "analyse":
        folder = Path(task["folder"])
        tools = load_tools(task, folder)
        return {"headline": analyse_folder(folder / "clean", Path(task["output"]), tools, progress)}
    before = Before(
        previous=tuple(Path(path) for path in task["previous"]),
        correction=Path(task["correction"]) if task["correction"] else None,
        is_rejected=task["reject_superseded"],
        prior=PriorReport(Path(task["prior"]), date.fromisoformat(task["prior_date"])) if task["prior"] else None,
    )
    sources = [Path(path) for path in task["sources"]]
    objects = package(sources, Path(task["report"]), Path(task["output"]), progress, before)
    return {"objects": [asdict(one) for one in objects]}


if __name__ == "__main__":
    serve_child(work)

"""What people see on a terminal: a job's progress, and a report as a table."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from sr_export.codes import PRINTED_UNITS, concept
from sr_export.inputs import Measurement, Report
from sr_export.sr_groups import printed_value


def stage_bar(console: Console) -> Progress:
    """Return a progress bar that names the stage."""
    columns = (TextColumn("{task.description:<44}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def print_report(report: Report, console: Console) -> None:
    """Print the headline, every measurement with its unit and interval, and every finding."""
    console.print()
    console.print(f"[bold]{report.headline}[/]", highlight=False)
    table = Table("", "measurement", "value", "interval", "unit", title="Results", title_justify="left")
    for group in report.groups:
        for measurement in group.measurements:
            table.add_row(group.name, *_cells(measurement))
    if report.groups:
        console.print(table)
    findings = Table("subject", "flag", "finding", title="Findings", title_justify="left")
    for finding in report.findings:
        style = "red" if finding.forbids else ""
        findings.add_row(finding.subject, finding.code, finding.sentence, style=style)
    console.print(findings)


def _cells(measurement: Measurement) -> tuple[str, str, str, str]:
    row = concept(measurement.concept)
    bounds = [bound for bound in (measurement.low, measurement.high) if bound is not None]
    interval = " to ".join(printed_value(measurement.concept, bound) for bound in bounds)
    name = row.name.replace("{subject} ", "")
    unit = PRINTED_UNITS.get(row.unit.value, row.unit.value)
    return name, printed_value(measurement.concept, measurement.value), interval, unit

"""The conformance statement is what the code does: its tables are compared with the code, the document with both."""

import ast
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from pynetdicom import sop_class as known_classes

from dicom_node.conformance import PLACE, TABLES, TEXT, statement
from dicom_node.conformance.tables import ANSWERED
from dicom_node.db.session import Databases
from dicom_node.dicomweb.routes import dicomweb_routes
from dicom_node.net import admission, statuses
from dicom_node.net.contexts import STORAGE_CLASSES
from dicom_node.net.services import SERVICES
from dicom_node.settings import Settings

ROOT = Path(__file__).parents[3]
NET = ROOT / "dicom_node" / "net"


def test_the_document_is_what_the_code_says() -> None:
    document = (ROOT / "docs" / "conformance.md").read_text()
    assert document == statement(), "run: osteonode conformance > docs/conformance.md"


def test_every_table_has_its_place_and_every_place_its_table() -> None:
    assert sorted(PLACE.findall(TEXT.read_text())) == sorted(TABLES)
    assert "{{" not in statement()


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_has_rows_of_the_width_of_its_head(name: str) -> None:
    widths = [line.count("|") for line in TABLES[name]().splitlines()]
    assert len(widths) > 2
    assert len(set(widths)) == 1


def test_every_sop_class_the_network_code_names_is_in_the_statement() -> None:
    named = {
        alias.name
        for path in NET.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "pynetdicom.sop_class"
        for alias in node.names
    }
    classes = {getattr(known_classes, name) for name in named} - {known_classes.StorageCommitmentPushModelInstance}
    assert classes == {service.sop_class_uid for service in SERVICES}


def test_every_status_the_receiver_can_answer_is_explained() -> None:
    can = {status for _, status in statuses.ERROR_STATUS} | {statuses.status_of(Exception()), statuses.SUCCESS}
    cases = [("", ""), ("1.2.3", "1.2"), (admission.WITHOUT_STUDY[0], "1.2"), (STORAGE_CLASSES[0], "1.2")]
    can |= {status for one in cases if (status := admission.refusal_of(*one, ())) is not None}
    can |= {statuses.UNRECOGNISED_OPERATION}
    assert can == ANSWERED.keys()


def test_every_rejection_of_the_network_code_is_in_the_statement() -> None:
    made = re.findall(
        r"Rejection\((\d), (\d), (\d), \"(\w+)\"\)", "".join(path.read_text() for path in NET.glob("*.py"))
    )
    table = TABLES["rejections"]()
    assert len(made) >= 6
    for result, source, reason, when in made:
        words = when.replace("_", " ").replace(" ae ", " AE ")
        assert f"| {result} | {source} | {reason} | {words} |" in table


def test_every_resource_of_the_running_service_is_in_the_statement(databases: Databases, settings: Settings) -> None:
    app = FastAPI()
    app.include_router(dicomweb_routes(databases, settings))
    running = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    rows = [line.split(" | ") for line in TABLES["web_services"]().splitlines()[2:]]
    assert {(row[1], row[2].strip("`").replace(":path", "")) for row in rows} == running


def test_no_row_of_the_statement_is_there_twice() -> None:
    lines = [line for line in statement().splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    heads = {table().splitlines()[0] for table in TABLES.values()}
    repeated = {line for line in lines if lines.count(line) > 1}
    assert repeated <= heads

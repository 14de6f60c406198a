"""The table of statuses: every code has one meaning, and the document prints the table."""

from pathlib import Path

import pytest

from dicom_node.net.outcomes import OUTCOME_WORDS, STATUSES, in_words, outcome_of

DOCUMENT = Path(__file__).parents[3] / "docs" / "delivery.md"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, "accepted"),
        (0x0111, "accepted"),
        (0xB000, "accepted"),
        (0xB006, "accepted"),
        (0xB007, "accepted"),
        (0xB123, "accepted"),
        (0xA700, "later"),
        (0xA7FF, "later"),
        (0x0213, "later"),
        (0x0110, "limited"),
        (0xA900, "refused"),
        (0xC000, "refused"),
        (0xC123, "refused"),
        (0x0122, "class_refused"),
        (0xA800, "class_refused"),
        (0x0001, "accepted"),
        (0x9999, "refused"),
        (0xFFFF, "refused"),
    ],
)
def test_what_becomes_of_an_object(status: int, outcome: str) -> None:
    assert outcome_of(status) == outcome
    assert in_words(status).startswith(f"0x{status:04X} ")


def test_no_row_is_hidden_behind_another() -> None:
    for number, row in enumerate(STATUSES):
        assert row.first <= row.last
        assert not any(one.first <= row.first and row.last <= one.last for one in STATUSES[:number]), row


def table() -> list[str]:
    return [
        f"| `0x{row.first:04X}`{'' if row.first == row.last else f' to `0x{row.last:04X}`'} | {row.meaning} | "
        f"{OUTCOME_WORDS[row.outcome]} |"
        for row in STATUSES
    ]


def test_the_document_prints_the_table() -> None:
    printed = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `0x")]
    assert printed == table()

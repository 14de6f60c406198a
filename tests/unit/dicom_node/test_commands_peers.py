"""``osteonode peer``: adding, listing and setting what a peer gets."""

from pathlib import Path

import pytest

from dicom_node.cli import main

ADD = ["peer", "add", "pacs", "--aet", "PACS", "--host", "pacs.example", "--port", "104"]


@pytest.fixture(autouse=True)
def _node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTEONODE_DATA_DIR", str(tmp_path / "data"))


def listed(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["peer", "list"]) == 0
    return capsys.readouterr().out


def test_a_profile_is_shown_set_and_set_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ADD, "--objects", "sr,pdf"]) == 0
    assert "sr pdf" in listed(capsys)
    assert main(["peer", "set", "pacs", "--objects", "sr, sc", "--sr-class", "basic_text"]) == 0
    assert "gets sr, sc; SR class basic_text" in capsys.readouterr().out
    shown = listed(capsys)
    assert "sr sc" in shown
    assert "basic_text" in shown
    assert main(["peer", "set", "pacs", "--objects", "sr,seg,sc,pdf", "--sr-class", "auto"]) == 0
    shown = listed(capsys)
    assert "sr seg sc pdf" in shown
    assert "auto" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["pacs"], 1, "Nothing to set"),
        (["nobody", "--sr-class", "auto"], 1, "no peer named nobody"),
        (["pacs", "--objects", "images"], 2, "'sr', 'seg', 'sc' or 'pdf'"),
        (["pacs", "--objects", ""], 2, "at least one"),
        (["pacs", "--sr-class", "3d"], 2, "'comprehensive_3d'"),
    ],
)
def test_a_wrong_profile_is_refused_with_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    main(ADD)
    capsys.readouterr()
    assert main(["peer", "set", *arguments]) == code
    assert words in " ".join(capsys.readouterr().out.split())

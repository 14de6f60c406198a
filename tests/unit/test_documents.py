"""Documents that are held to the code: sources resolve, commands exist, paths are there."""

import re
from pathlib import Path

import pytest

from dicom_node.cli import _parser

ROOT = Path(__file__).parents[2]
PACKAGES = ("dicom_node", "deid_rules", "inference", "fe", "sr_export")
KEY = re.compile(r"\[([A-Z][A-Za-z]+(?:19|20)\d{2})\b")


def texts() -> list[Path]:
    sources = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    return [*sources, *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]


def test_every_source_in_brackets_is_in_the_references() -> None:
    references = (ROOT / "docs" / "references.md").read_text()
    cited = {(key, path.name) for path in texts() for key in KEY.findall(path.read_text())}
    missing = sorted((key, name) for key, name in cited if f"| {key} |" not in references)
    assert not missing


def test_every_command_in_the_documents_exists() -> None:
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for line in re.findall(r"^ *(?:\$ )?(?:\.venv/bin/)?osteonode (.+)$", path.read_text(), re.MULTILINE):
            words = [word for word in line.split("#")[0].split() if word not in ("|", "\\")]
            assert is_accepted(words), f"{path.name}: osteonode {line}"


def is_accepted(words: list[str]) -> bool:
    try:
        _parser().parse_args(words)
    except SystemExit as end:
        return end.code == 0
    return True


def test_every_link_to_a_file_of_the_project_leads_somewhere() -> None:
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_make_help_names_the_two_commands_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in readme
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE)


@pytest.mark.parametrize("word", ["/work/", "/root/", "pypi.org", "127.0.0.1:5000"])
def test_the_project_names_no_machine_and_no_registry(word: str) -> None:
    for path in (*texts(), ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / ".ci" / "run"):
        assert word not in path.read_text(), path.name

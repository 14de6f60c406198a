"""Settings from environment and file, and their documentation."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from dicom_node.settings import CONFIG_VARIABLE, Settings

DOCS = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_environment_sets_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTEONODE_AE_TITLE", "BONES")
    assert Settings().ae_title == "BONES"


def test_a_file_sets_a_field_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "osteonode.toml"
    file.write_text('ae_title = "FROMFILE"\nquiet_s = 7\n')
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    monkeypatch.setenv("OSTEONODE_QUIET_S", "9")
    settings = Settings()
    assert (settings.ae_title, settings.quiet_s) == ("FROMFILE", 9)


def test_a_mistyped_field_in_the_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "osteonode.toml"
    file.write_text("quiet_seconds = 7\n")
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize("title", ["", " ", "A" * 17, "A\\B", "Ä"])
def test_an_impossible_ae_title_is_refused(title: str) -> None:
    with pytest.raises(ValidationError):
        Settings(ae_title=title)


def test_hospital_and_research_side_share_no_file(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    urls = {settings.hospital_url, settings.identity_url, settings.research_url, settings.engine_url}
    assert len(urls) == 4
    assert settings.hospital_dir != settings.research_dir


def test_every_setting_is_documented_with_its_default() -> None:
    text = DOCS.read_text()
    for name, field in Settings.model_fields.items():
        assert f"`OSTEONODE_{name.upper()}`" in text, name
        assert field.description is not None
        assert field.description in text, name

"""Keys in the OS keyring: the same keys, another place."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.identity.keys import add_version, load_keys


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    kept: dict[tuple[str, str], str] = {}
    module = ModuleType("keyring")
    module.get_password = lambda service, name: kept.get((service, name))  # type: ignore[attr-defined]
    module.set_password = lambda service, name, value: kept.__setitem__((service, name), value)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)
    return kept


def test_keys_are_made_kept_and_rotated(entries: dict[tuple[str, str], str]) -> None:
    place = Path("keyring:ward")
    first = load_keys(place)
    assert load_keys(place).column == first.column
    second = add_version(place)
    assert (second.key_id, second.of("1").column) == ("2", first.column)
    assert second.uid == first.uid
    assert {service for service, _ in entries} == {"ward"}


def test_a_damaged_entry_is_refused(entries: dict[tuple[str, str], str]) -> None:
    load_keys(Path("keyring:ward"))
    entries["ward", "uid-1"] = "not hexadecimal"
    with pytest.raises(ConfigurationError, match="uid-1 holds 0 bytes"):
        load_keys(Path("keyring:ward"))


def test_without_the_package_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigurationError, match="pip install keyring"):
        load_keys(Path("keyring:ward"))

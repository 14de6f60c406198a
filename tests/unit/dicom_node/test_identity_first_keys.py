"""The first keys of a node are all made or made again, whenever the process that makes them is killed."""

from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.identity.keys import load_keys
from dicom_node.identity.keystore import FolderStore

KINDS = ("column", "index", "uid")


@pytest.mark.parametrize("made", range(4))
def test_first_keys_that_were_interrupted_are_completed_and_those_made_stay(
    tmp_path: Path, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    create, count = FolderStore.create, []

    def killed(store: FolderStore, kind: str, version: int) -> None:
        if len(count) == made:
            raise KilledError
        count.append(kind)
        create(store, kind, version)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "create", killed)
        if made < 3:
            with pytest.raises(KilledError):
                load_keys(tmp_path)
        else:
            load_keys(tmp_path)
    there = {path.name: path.read_bytes() for path in tmp_path.glob("*.key")}
    assert len(there) == made
    keys = load_keys(tmp_path)
    for name, content in there.items():
        assert (tmp_path / name).read_bytes() == content, "a key that was made is never made again"
    assert load_keys(tmp_path) == keys
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{kind}-1.key" for kind in KINDS]


def test_a_key_that_is_lost_later_is_asked_for_and_not_made_again(tmp_path: Path) -> None:
    load_keys(tmp_path)
    (tmp_path / "uid-1.key").unlink()
    with pytest.raises(ConfigurationError, match="Put them back"):
        load_keys(tmp_path)

"""What a process that runs jobs asks before it begins."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node import worker
from dicom_node.db.session import SILENCE, open_engine
from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings


def test_sqlite_is_refused_for_a_second_process_with_the_settings_to_change(tmp_path: Path) -> None:
    url = "postgresql+psycopg://host/name"
    settings = Settings(data_dir=tmp_path, hospital_database_url=url, identity_database_url=url)
    with pytest.raises(ConfigurationError, match="research_database_url, engine_database_url to PostgreSQL"):
        worker.refuse_sqlite(settings)
    worker.refuse_sqlite(
        settings.model_copy(update={"research_database_url": url, "engine_database_url": url}),
    )


@pytest.mark.parametrize(("code", "slots"), [(0, 2), (3, 0), (1, 0)])
def test_gpu_places_are_offered_where_a_device_is_found(monkeypatch: pytest.MonkeyPatch, code: int, slots: int) -> None:
    monkeypatch.setattr(worker, "CUDA_QUESTION", f"import sys; sys.exit({code})")
    assert worker._gpu_slots(2) == slots


def test_nobody_asks_for_a_gpu_that_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.subprocess, "run", lambda *words, **options: pytest.fail("asked"))
    assert worker._gpu_slots(0) == 0


def test_two_signs_of_life_may_come_late() -> None:
    with pytest.raises(ValueError, match="three times heartbeat_s"):
        Settings(heartbeat_s=5, stale_s=14)


def test_a_postgresql_that_falls_silent_is_not_waited_for_without_end_and_the_url_has_the_last_word() -> None:
    class AskedError(Exception):
        pass

    def ask(_dialect: object, _record: object, _words: object, parameters: dict[str, object]) -> None:
        asked.update(parameters)
        raise AskedError

    for query, idle in (("", 10), ("?keepalives_idle=60", "60")):
        asked: dict[str, object] = {}
        engine = open_engine(f"postgresql+psycopg://host/name{query}")
        sa.event.listen(engine, "do_connect", ask)
        with pytest.raises(AskedError):
            engine.connect()
        assert asked.keys() >= SILENCE.keys()
        assert asked["keepalives_idle"] == idle

"""A small file system that fills up: refused with 0xA700 before it is full, and accepted again when there is room.

A tmpfs is mounted for it, which takes the superuser; without it these tests are skipped.
"""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node import clock
from dicom_node.db.session import open_databases, prepare_databases, transaction
from dicom_node.db.studies import arrivals
from dicom_node.demo.local_node import LocalNode
from dicom_node.net.scp import Listener, Receiver
from dicom_node.settings import Settings
from dicom_node.storage.intake import Intake
from tests.conftest import wait_for
from tests.dicom_dataset import ct_dataset
from tests.dicom_wire import ASSOCIATE_AC, Caller, send_all, store

MEGABYTE = 1 << 20
OUT_OF_RESOURCES = 0xA700


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def image(megabytes: int = 1) -> bytes:
    return store(*ct_dataset(pixel_bytes=megabytes * MEGABYTE))


def left_over(folder: Path) -> list[Path]:
    return list((folder / "incoming").iterdir())


def test_the_watermark_stops_the_intake_and_room_resumes_it(
    make_node: Callable[..., LocalNode], small_disk: Path, tmp_path: Path
) -> None:
    (small_disk / "hospital").mkdir()
    (tmp_path / "node0").mkdir()
    (tmp_path / "node0" / "hospital").symlink_to(small_disk / "hospital")
    node = make_node(accept_unknown_peers=True, quiet_s=3600, reserve_bytes=2 * MEGABYTE, watermark_percent=80)
    ballast = small_disk / "ballast"

    assert send_all(node.dicom_port, [image()]) == [0]
    ballast.write_bytes(bytes(19 * MEGABYTE))
    assert send_all(node.dicom_port, [image(), image()]) == [OUT_OF_RESOURCES] * 2
    health = node.get("/health")
    assert (health["status"], health["is_accepting"]) == ("disk full", False)
    assert not left_over(small_disk / "hospital")

    ballast.unlink()
    assert send_all(node.dicom_port, [image()]) == [0]
    assert node.get("/health")["is_accepting"]
    events = (node.data_dir.parent / "node.log").read_text()
    assert events.count("intake_stopped") == events.count("intake_resumed") == 1
    assert node.get("/health")["instance_count"] == 2


def test_a_disk_that_is_full_in_mid_write_is_out_of_resources_and_leaves_nothing(small_disk: Path) -> None:
    """The database lies elsewhere; no reserve warns before."""
    database = f"sqlite:///{small_disk.parent / 'node.db'}"
    settings = Settings(data_dir=small_disk, hospital_database_url=database)
    prepare_databases(settings).dispose()
    databases = open_databases(settings)
    intake = Intake(databases.hospital, settings.hospital_dir, reserve_bytes=0)
    running = Receiver(
        "OSTEONODE",
        [Listener("127.0.0.1", 0)],
        lambda arrival: intake.keep(arrival, clock.now()),
        spool=intake.spool,
    )
    try:
        ballast = settings.hospital_dir / "ballast"
        ballast.write_bytes(bytes(12 * MEGABYTE))
        statuses = send_all(running.port, [image(2), image(30), image(2), image(30), image(1)])
        assert statuses == [0, OUT_OF_RESOURCES, 0, OUT_OF_RESOURCES, 0]
        assert not left_over(settings.hospital_dir)
        kept = list((settings.hospital_dir / "instances").rglob("*.dcm"))
        with transaction(databases.hospital) as session:
            assert sum(study.instance_count for study in arrivals(session)) == len(kept) == 3

        with Caller(running.port) as caller:
            assert caller.associate() == ASSOCIATE_AC
            caller.send(image(3)[: 2 * MEGABYTE])
        wait_for(lambda: not left_over(settings.hospital_dir), 10, "the file of a sender that has gone")

        while (status := send_all(running.port, [image()])[0]) == 0:
            pass
        assert status == OUT_OF_RESOURCES
        ballast.unlink()
        assert send_all(running.port, [image()]) == [0]
    finally:
        running.close()
        databases.dispose()

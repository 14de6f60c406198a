"""What a destination gets by its profile and by what its association accepts, with receipts and identity of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from result_factory import make_report, make_source
from sqlalchemy.exc import IntegrityError

from dicom_node import clock
from dicom_node.db.deliveries import begin_again, delivered_reports, open_deliveries, receipted_uids, replace_results
from dicom_node.db.instances import is_own_result
from dicom_node.db.models import RESULT_KINDS, SR_CLASSES, SR_KINDS, Delivery, Peer, Result, StudyVersion
from dicom_node.db.session import Databases, transaction
from dicom_node.net.contexts import UNCOMPRESSED
from dicom_node.pipeline import variants
from dicom_node.pipeline.delivery import Outbox
from dicom_node.settings import Settings
from dicom_node.web.peer_schemas import ResultObject, SrClass
from sr_export.build import build_results
from sr_export.errors import NotExpressible
from sr_export.fallback import REPORT_CLASSES, ReportClass

JOB = "c" * 32
CLASS = {key: str(row.sop_class_uid) for key, row in REPORT_CLASSES.items()}
SEG, SC, PDF = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.104.1")
OTHERS = (SEG, SC, PDF)
WITHOUT_REPORT = sorted([SEG, SEG, SC, PDF])
"""What the results below hold beside the report: two Segmentations, since their regions overlap."""
EXPLICIT, IMPLICIT = UNCOMPRESSED
KINDS = {SEG: "seg", SC: "page", PDF: "pdf", CLASS["comprehensive_3d"]: "sr"}
NAME = "Yamada^Tarou=山田^太郎=やまだ^たろう"


class Archive:
    """A storage SCP for chosen classes; ``answers`` gives a status other than success for a class."""

    def __init__(self, answers: dict[str, int]) -> None:
        self.port = 0
        self.answers = answers
        self.kept: list[tuple[Dataset, str]] = []
        self.associations = 0

    @property
    def classes(self) -> list[str]:
        return [str(dataset.SOPClassUID) for dataset, _ in self.kept]

    @property
    def reports(self) -> list[Dataset]:
        return [dataset for dataset, _ in self.kept if str(dataset.SOPClassUID) in CLASS.values()]

    def keep(self, event: evt.Event) -> int:
        status = self.answers.get(str(event.request.AffectedSOPClassUID), 0)
        if status == 0:
            self.kept.append((event.dataset, str(event.context.transfer_syntax)))
        return status

    def count(self, event: evt.Event) -> None:
        del event
        self.associations += 1


@contextmanager
def archive_of(
    *classes: str, syntaxes: tuple[str, ...] = UNCOMPRESSED, answers: dict[str, int] | None = None
) -> Iterator[Archive]:
    archive = Archive(answers or {})
    ae = AE("PACS")
    for one in classes:
        ae.add_supported_context(one, list(syntaxes))
    handlers = [(evt.EVT_C_STORE, archive.keep), (evt.EVT_ACCEPTED, archive.count)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    archive.port = server.socket.getsockname()[1]
    try:
        yield archive
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def built() -> list[Dataset]:
    """SEG, SR, SC and PDF of one patient with a Japanese name."""
    source = make_source(charset=["", "ISO 2022 IR 87"], PatientName=NAME)
    report = make_report(pictures=())
    return list(build_results(source, report).datasets)


@pytest.fixture(autouse=True)
def _archives_that_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's own receiver takes every class; these archives take what they list."""
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", False)


@pytest.fixture(autouse=True)
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Put a list of what was shown to the validators in their place."""
    seen: list[Path] = []

    def accept(paths: list[Path], source: Path) -> tuple[str, ...]:
        del source
        seen.extend(paths)
        return ()

    monkeypatch.setattr(variants, "validate", accept)
    return seen


@pytest.fixture
def pack(databases: Databases, settings: Settings, built: list[Dataset]) -> Callable[[int], None]:
    """Return what writes and records the results of an attempt; they are the same in each."""

    def make(attempt: int) -> None:
        rows = []
        for number, dataset in enumerate(built, start=1):
            kind = KINDS[str(dataset.SOPClassUID)]
            path = f"results/{JOB}/{attempt}/{number}-{kind}.dcm"
            (settings.hospital_dir / path).parent.mkdir(parents=True, exist_ok=True)
            dataset.save_as(settings.hospital_dir / path, enforce_file_format=True)
            rows.append(
                Result(
                    sop_instance_uid=str(dataset.SOPInstanceUID), sop_class_uid=str(dataset.SOPClassUID), job_id=JOB,
                    attempt=attempt, kind=kind, path=path,
                )
            )  # fmt: skip
        with transaction(databases.hospital) as session:
            replace_results(session, JOB, attempt, rows)

    return make


@pytest.fixture
def deliver(
    databases: Databases, settings: Settings, pack: Callable[[int], None]
) -> Callable[..., tuple[str, Delivery]]:
    """Return what delivers an attempt to an archive once; peers are told apart by name."""
    outbox = Outbox(databases, settings.model_copy(update={"ae_title": "NODE", "verify_identity": False}))

    def make(archive: Archive, attempt: int = 1, name: str = "pacs", **profile: str) -> tuple[str, Delivery]:
        pack(attempt)
        with transaction(databases.hospital) as session:
            peer = session.query(Peer).filter_by(name=name).one_or_none() or Peer(
                name=name, ae_title=name.upper(), host="127.0.0.1", may_send=False, receives_results=True, port=1
            )
            peer.port = archive.port
            for column, value in profile.items():
                setattr(peer, column, value)
            session.add(peer)
            session.flush()
            open_deliveries(session, JOB, attempt, [peer], clock.now())
            row = session.query(Delivery).filter_by(peer_id=peer.id).one()
            if row.next_try_at is None:
                begin_again(row, clock.now())
            delivery_id, number = row.id, row.number
        outcome = outbox.deliver(delivery_id, number)
        with transaction(databases.hospital) as session:
            return outcome, session.get_one(Delivery, delivery_id)

    return make


def test_a_peer_that_takes_everything_gets_it_over_one_association_and_no_variant_is_made(
    deliver: Callable[..., tuple[str, Delivery]], built: list[Dataset], judged: list[Path]
) -> None:
    with archive_of(*OTHERS, *CLASS.values()) as archive:
        assert deliver(archive)[0] == "SENT"
        assert archive.classes == [str(one.SOPClassUID) for one in built]
        assert {syntax for _, syntax in archive.kept} == {EXPLICIT}
        assert archive.associations == 1
    assert judged == []


@pytest.mark.parametrize("key", ["comprehensive", "enhanced", "basic_text"])
def test_a_peer_that_refuses_the_newer_classes_gets_the_first_older_one_once(
    deliver: Callable[..., tuple[str, Delivery]], databases: Databases, judged: list[Path], key: str
) -> None:
    older = list(CLASS)[list(CLASS).index(key) :]
    with archive_of(*OTHERS, *(CLASS[one] for one in older)) as archive:
        outcome, delivery = deliver(archive)
        assert (outcome, delivery.state, delivery.sentence) == ("SENT", "SENT", "")
        assert sorted(archive.classes) == sorted([*WITHOUT_REPORT, CLASS[key]])
        (report,) = archive.reports
        with transaction(databases.hospital) as session:
            assert report.SOPInstanceUID in receipted_uids(session, delivery.id)
            assert len(receipted_uids(session, delivery.id)) == 5
            assert is_own_result(session, str(report.SOPInstanceUID)), "it is known when the PACS sends it back"
        archive.port = 1
        assert deliver(archive)[0] == "SENT", "nothing is left to send, so nobody is called"
    assert len(judged) == 1, "the gate saw it before it was sent"


def test_a_rerun_with_the_same_result_sends_no_report_again(
    deliver: Callable[..., tuple[str, Delivery]],
) -> None:
    with archive_of(*OTHERS, CLASS["basic_text"]) as archive:
        assert deliver(archive, 1)[0] == "SENT"
        assert deliver(archive, 2)[0] == "SENT"
        assert len(archive.kept) == 5


def test_two_peers_get_the_same_instance_each_in_its_class_and_the_next_report_cites_both(
    deliver: Callable[..., tuple[str, Delivery]], databases: Databases
) -> None:
    with archive_of(*OTHERS, CLASS["enhanced"]) as one, archive_of(*OTHERS, *CLASS.values()) as other:
        assert deliver(one, name="one")[0] == deliver(other, name="other")[0] == "SENT"
        assert deliver(one, name="third")[0] == "SENT"
        assert one.reports[0].SOPInstanceUID == one.reports[1].SOPInstanceUID
        expected = {str(one.reports[0].SOPInstanceUID), str(other.reports[0].SOPInstanceUID)}
    version = StudyVersion(
        study_instance_uid="1.2", version=1, instance_count=1, ct_count=1, job_id=JOB, created_at=clock.now()
    )
    with transaction(databases.hospital) as session:
        session.add(version)
        session.flush()
        assert {row.sop_instance_uid for row in delivered_reports(session, version)} == expected


def test_a_peer_that_takes_no_report_gets_the_rest_and_the_sentence_names_the_classes(
    deliver: Callable[..., tuple[str, Delivery]],
) -> None:
    with archive_of(*OTHERS) as archive:
        outcome, delivery = deliver(archive)
        assert (outcome, delivery.state) == ("FAILED", "FAILED")
        assert sorted(archive.classes) == WITHOUT_REPORT
    for row in REPORT_CLASSES.values():
        assert row.name in delivery.sentence
    assert "peer set pacs" in delivery.sentence


def test_a_class_refused_by_its_status_falls_back_too(deliver: Callable[..., tuple[str, Delivery]]) -> None:
    answers = {CLASS["comprehensive_3d"]: 0x0122, CLASS["comprehensive"]: 0x0122}
    with archive_of(*OTHERS, *CLASS.values(), answers=answers) as archive:
        assert deliver(archive)[0] == "SENT"
        assert [str(one.SOPClassUID) for one in archive.reports] == [CLASS["enhanced"]]


def test_a_report_refused_for_another_reason_is_not_tried_in_another_class(
    deliver: Callable[..., tuple[str, Delivery]],
) -> None:
    with archive_of(*OTHERS, *CLASS.values(), answers={CLASS["comprehensive_3d"]: 0xA900}) as archive:
        outcome, delivery = deliver(archive)
        assert outcome == "FAILED"
        assert archive.reports == []
    assert "0xA900" in delivery.sentence


def test_a_named_class_is_the_only_one_offered(deliver: Callable[..., tuple[str, Delivery]]) -> None:
    with archive_of(*OTHERS, *CLASS.values()) as archive:
        assert deliver(archive, sr_class="basic_text")[0] == "SENT"
        assert [str(one.SOPClassUID) for one in archive.reports] == [CLASS["basic_text"]]
        assert archive.associations == 1
    with archive_of(*OTHERS, CLASS["basic_text"]) as archive:
        outcome, delivery = deliver(archive, name="other", sr_class="enhanced")
        assert outcome == "FAILED"
        assert archive.reports == []
    assert "Enhanced SR" in delivery.sentence
    assert "Basic Text SR" not in delivery.sentence


def test_a_class_set_later_is_sent_by_the_next_run_and_setting_it_back_sends_nothing_new(
    deliver: Callable[..., tuple[str, Delivery]],
) -> None:
    with archive_of(*OTHERS, *CLASS.values()) as archive:
        deliver(archive, 1)
        deliver(archive, 2, sr_class="basic_text")
        deliver(archive, 3, sr_class="auto")
        assert [str(one.SOPClassUID) for one in archive.reports] == [CLASS["comprehensive_3d"], CLASS["basic_text"]]


@pytest.mark.parametrize(
    ("objects", "expected"),
    [("sr,pdf", [CLASS["comprehensive_3d"], PDF]), ("sc", [SC]), ("seg", [SEG, SEG])],
)
def test_a_peer_gets_the_objects_of_its_profile_only(
    deliver: Callable[..., tuple[str, Delivery]], objects: str, expected: list[str]
) -> None:
    with archive_of(*OTHERS, *CLASS.values()) as archive:
        assert deliver(archive, objects=objects)[0] == "SENT"
        assert archive.classes == expected


def test_a_note_that_rejects_superseded_results_goes_to_every_peer(
    deliver: Callable[..., tuple[str, Delivery]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, SC, "kos")
    with archive_of(*OTHERS, *CLASS.values()) as archive:
        assert deliver(archive, objects="pdf")[0] == "SENT"
        assert archive.classes == [SC, PDF]


def test_a_peer_without_explicit_vr_gets_everything_in_implicit_vr_unchanged(
    deliver: Callable[..., tuple[str, Delivery]], built: list[Dataset]
) -> None:
    with archive_of(*OTHERS, *CLASS.values(), syntaxes=(IMPLICIT,)) as archive:
        assert deliver(archive)[0] == "SENT"
        assert {syntax for _, syntax in archive.kept} == {IMPLICIT}
    for (found, _), sent in zip(archive.kept, built, strict=True):
        assert found.SOPInstanceUID == sent.SOPInstanceUID
        assert str(found.PatientName) == NAME
        assert found.get("PixelData") == sent.get("PixelData")
        assert found.get("EncapsulatedDocument") == sent.get("EncapsulatedDocument")


def test_a_peer_that_prefers_implicit_vr_gets_explicit_vr_where_it_takes_both(
    deliver: Callable[..., tuple[str, Delivery]],
) -> None:
    with archive_of(*OTHERS, *CLASS.values(), syntaxes=(IMPLICIT, EXPLICIT)) as archive:
        assert deliver(archive)[0] == "SENT"
        assert {syntax for _, syntax in archive.kept} == {EXPLICIT}


def test_a_peer_that_takes_nothing_at_all_fails_at_once_with_a_sentence(
    deliver: Callable[..., tuple[str, Delivery]],
) -> None:
    with archive_of("1.2.840.10008.1.1") as archive:
        outcome, delivery = deliver(archive)
    assert outcome == "FAILED"
    assert "no presentation context" in delivery.sentence


def test_a_variant_that_does_not_pass_the_gate_is_not_sent_and_the_rest_is(
    deliver: Callable[..., tuple[str, Delivery]],
    databases: Databases,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(variants, "validate", lambda paths, source: (f"dciodvfy: {paths[0].suffix}: bad",))
    with archive_of(*OTHERS, CLASS["enhanced"]) as archive:
        outcome, delivery = deliver(archive)
        assert outcome == "FAILED"
        assert sorted(archive.classes) == WITHOUT_REPORT
    assert "Enhanced SR did not pass the checks" in delivery.sentence
    with transaction(databases.hospital) as session:
        assert session.query(Result).filter_by(kind="sr_enhanced").count() == 0
    folder = settings.hospital_dir / "results" / JOB / "1"
    assert len(list(folder.iterdir())) == 5, "no draft is left"


def test_the_tables_of_classes_and_objects_agree_and_the_database_knows_no_other(databases: Databases) -> None:
    assert (*get_args(SrClass),) == SR_CLASSES == ("auto", *REPORT_CLASSES)
    assert set(get_args(ResultObject)) == set(RESULT_KINDS)
    assert tuple(row.kind for row in REPORT_CLASSES.values()) == SR_KINDS
    for name in SR_CLASSES:
        with transaction(databases.hospital) as session:
            session.add(
                Peer(name=name, ae_title=name, host="h", port=1, may_send=True, receives_results=True, sr_class=name)
            )
    with pytest.raises(IntegrityError), transaction(databases.hospital) as session:
        session.add(Peer(name="x", ae_title="X", host="h", port=1, may_send=True, receives_results=True, sr_class="x"))


def test_a_report_that_an_older_class_cannot_say_is_refused_with_its_sentence_and_found_later(
    deliver: Callable[..., tuple[str, Delivery]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(report: Dataset, report_class: ReportClass) -> Dataset:
        raise NotExpressible(f"{report_class.name} has no TABLE.")

    monkeypatch.setattr(variants, "fall_back", refuse)
    with archive_of(*OTHERS, CLASS["enhanced"]) as archive:
        for _ in range(2):
            outcome, delivery = deliver(archive)
            assert outcome == "FAILED"
            assert "Enhanced SR has no TABLE" in delivery.sentence
        assert sorted(archive.classes) == WITHOUT_REPORT


def test_a_variant_whose_file_was_lost_is_made_again(
    deliver: Callable[..., tuple[str, Delivery]], settings: Settings
) -> None:
    with archive_of(CLASS["enhanced"]) as archive:
        deliver(archive, objects="sr")
        next((settings.hospital_dir / "results" / JOB / "1").glob("*sr_enhanced.dcm")).unlink()
        assert deliver(archive, name="other", objects="sr")[0] == "SENT"
        assert len({str(one.SOPInstanceUID) for one in archive.reports}) == 1


def test_what_was_made_is_what_is_on_disk(deliver: Callable[..., tuple[str, Delivery]], settings: Settings) -> None:
    with archive_of(CLASS["basic_text"]) as archive:
        deliver(archive, objects="sr")
        path = next((settings.hospital_dir / "results" / JOB / "1").glob("*sr_text.dcm"))
        assert dcmread(path).SOPInstanceUID == archive.reports[0].SOPInstanceUID
        assert dcmread(path).file_meta.MediaStorageSOPClassUID == UID(CLASS["basic_text"])

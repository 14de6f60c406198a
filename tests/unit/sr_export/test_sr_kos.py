"""The note that rejects superseded results names all of them, and nothing that still holds."""

from dataclasses import replace
from datetime import timedelta

import pytest
from result_factory import CREATED, build_without_drawing, make_report, make_source

from sr_export.build import rejected_objects
from sr_export.check import check_results
from sr_export.errors import ContradictoryReport
from sr_export.kos import build_kos

OLD = make_report(pictures=())
NEW = make_report(pictures=(), job_reference="job-0002", created=CREATED + timedelta(hours=1))


@pytest.fixture(scope="module")
def runs():
    source = make_source()
    old = build_without_drawing(source, OLD)
    return source, old, build_without_drawing(source, NEW, None, old.datasets)


def rejected(kos):
    return {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in kos.ContentSequence
        if item.ValueType in ("IMAGE", "COMPOSITE")
    }


def test_a_rejection_note_names_every_superseded_object_in_text_and_evidence(runs):
    _, old, new = runs
    uids = {one.SOPInstanceUID for one in old.datasets}
    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in new.kos.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert rejected(new.kos) == evidence == uids


def test_a_reference_has_no_name_because_the_template_forbids_one(runs):
    references = [item for item in runs[2].kos.ContentSequence if item.ValueType in ("IMAGE", "COMPOSITE")]
    assert not any("ConceptNameCodeSequence" in item for item in references)


def test_title_and_class_are_those_of_a_rejection_for_quality(runs):
    kos = runs[2].kos
    assert kos.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.59"
    assert kos.Modality == "KO"
    assert kos.ConceptNameCodeSequence[0].CodeValue == "113001"
    assert kos.ContentTemplateSequence[0].TemplateIdentifier == "2010"
    assert kos.ContentQualification == "RESEARCH"


def test_the_note_is_sent_last_and_passes_the_gate(runs):
    source, old, new = runs
    assert new.datasets[-1] is new.kos
    assert check_results(source, new, NEW, None, old.datasets) == ()


def test_no_note_is_made_where_nothing_is_superseded(runs):
    source, old, _ = runs
    assert old.kos is None
    assert check_results(source, old, OLD) == ()


def test_the_gate_finds_a_note_that_rejects_too_little_or_something_else(runs):
    source, old, new = runs
    more = [*old.datasets, make_source()[0]]
    assert check_results(source, new, NEW, None, more) == ("KO: 1 superseded objects are not rejected.",)
    found = check_results(source, new, NEW, None, old.datasets[1:])
    assert found == ("KO: 1 references point to no instance of source or job.",)


def test_the_gate_finds_a_note_that_rejects_a_result_of_its_own_run(runs):
    source, old, new = runs
    wrong = replace(new, kos=build_kos(source[0], [*old.datasets, new.sr], NEW))
    found = check_results(source, wrong, NEW, None, old.datasets)
    assert found == ("KO: 1 references point to no instance of source or job.",)


def test_a_missing_note_is_found(runs):
    source, old, _ = runs
    without = build_without_drawing(source, NEW)
    found = check_results(source, without, NEW, None, old.datasets)
    assert found == (f"KO: {len(old.datasets)} superseded objects are not rejected.",)


def test_an_object_that_a_new_run_gives_again_is_not_rejected(runs):
    _, old, _ = runs
    assert rejected_objects(old, [*old.datasets, *runs[2].segs]) == list(runs[2].segs)


def test_objects_of_another_study_or_none_at_all_are_refused(runs):
    source, old, _ = runs
    other = make_source(StudyInstanceUID="2.25.9")[0]
    with pytest.raises(ContradictoryReport, match="1 of 2 superseded"):
        build_kos(source[0], [old.sr, other], NEW)
    with pytest.raises(ContradictoryReport, match="0 of 0"):
        build_kos(source[0], [], NEW)

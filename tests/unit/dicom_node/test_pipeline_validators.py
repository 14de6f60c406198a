"""The runner of the validators: what it counts, and that it never repeats a patient's value."""

from dicom_node.pipeline import validators
from dicom_node.pipeline.validators import findings, without_values

DCENTVFY = (
    "Error - Different PatientID for same StudyInstanceUID - StudyInstanceUID=<1.2.3> PatientID=<SECRET> "
    "for file </var/spool/secret/3-sr.dcm> versus existing PatientID=<HIDDEN>"
)


def test_quoted_values_and_folders_are_cut_out_of_a_message():
    text = without_values(DCENTVFY)
    assert "Different PatientID for same StudyInstanceUID" in text
    assert "<3-sr.dcm>" in text
    assert not any(word in text for word in ("SECRET", "HIDDEN", "1.2.3", "spool"))


def test_the_place_of_an_attribute_stays_in_a_message():
    line = 'Error - </PatientName(0010,0010)[1]> - Value dubious for this VR - PN = <A^B> "A^B" [A^B]'
    text = without_values(line)
    assert "</PatientName(0010,0010)[1]>" in text
    assert "A^B" not in text


def test_missing_validators_are_skipped_and_said(monkeypatch, tmp_path):
    said = []
    monkeypatch.setattr(validators, "SEARCH_PATH", str(tmp_path))
    monkeypatch.setattr(validators.log, "warning", lambda event, **fields: said.append(fields["validator"]))
    assert findings([tmp_path / "a.dcm"], tmp_path / "source.dcm") == ()
    assert said == ["dciodvfy", "dcentvfy", "PixelMed"]
    assert validators.missing_validators() == ("dciodvfy", "dcentvfy", "PixelMed")


def test_a_validator_that_breaks_is_a_finding(monkeypatch, tmp_path):
    monkeypatch.setattr(validators, "_run", lambda arguments: None)
    found = list(validators._object_findings("dciodvfy", tmp_path / "a.dcm"))
    assert [finding.severity for finding in found] == ["error"]


def test_only_errors_about_copied_attributes_are_excused_by_the_source():
    assert validators._is_copied("Error - </PatientAge(0010,1010)> - Value invalid")
    assert not validators._is_copied("Error - </PixelData(7fe0,0010)> - Missing attribute for Type 1C")

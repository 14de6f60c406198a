"""The tables of concepts: lengths, uniqueness, agreement with the standard's tables and with the flags."""

from pathlib import Path

import pytest
from pydicom.sr.codedict import codes as standard

from inference.densitometry import LUMBAR_SUBSTITUTE
from inference.labels import STRUCTURES as LABELS
from inference.quality import FLAGS
from sr_export import codes, concepts
from sr_export.describe import concept_table, finding_table, statement_table, structure_table
from sr_export.errors import ContradictoryReport, UnknownConcept

DOCUMENT = Path(__file__).parents[3] / "docs" / "results.md"


def test_private_codes_fit_their_value_representations_and_are_unique():
    private = list(codes.private_codes())
    assert all(code.scheme_designator == codes.SCHEME for code in private)
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in private)
    assert all(code.meaning.isascii() and code.value.isascii() for code in private)
    assert len({code.value for code in private}) == len(private)
    assert len({code.meaning for code in private}) == len(private)


def test_every_uncalibrated_name_says_so_and_no_calibrated_one_does():
    bones = {concepts.SIDES: "femur", concepts.PERIPHERAL: "radius", concepts.VERTEBRAE: "L1"}
    for key, row in concepts.CONCEPTS.items():
        structure = bones.get(row.subjects, "lumbar_spine")
        for is_calibrated in (True, False):
            code = codes.concept_code(key, structure, "R", is_calibrated=is_calibrated)
            expected = row.needs_calibration and not is_calibrated
            assert code.meaning.endswith(", uncalibrated") == expected, key


def test_every_density_and_strength_depends_on_calibration():
    for row in concepts.CONCEPTS.values():
        assert row.needs_calibration == (row.unit.value in ("mg/cm3", "g/cm2", "N", "N/mm")), row.key


def test_standard_codes_are_those_of_the_standards_tables():
    assert codes.STRUCTURES["L1"].value == standard.SCT.L1Vertebra.value
    assert codes.STRUCTURES["L2"].value == standard.SCT.L2Vertebra.value
    assert codes.STRUCTURES["T12"].value == standard.SCT.T12Vertebra.value
    assert codes.STRUCTURES["femur"].value == standard.SCT.Femur.value
    assert codes.STRUCTURES["radius"].value == standard.SCT.RadiusBone.value
    assert codes.STRUCTURES["tibia"].value == standard.SCT.Tibia.value
    assert codes.STRUCTURES["ulna"].value == standard.SCT.Ulna.value
    assert codes.STRUCTURES["fibula"].value == standard.SCT.Fibula.value
    assert codes.STRUCTURES["metacarpal_2"].value == standard.SCT.Metacarpal.value
    assert codes.LATERALITIES["R"].value == standard.SCT.Right.value
    assert codes.LATERALITIES["L"].value == standard.SCT.Left.value
    assert codes.SUMMARY.value == standard.DCM.Summary.value
    assert codes.REPORT_TITLE.value == standard.DCM.ImagingMeasurementReport.value


def test_side_and_case_stand_in_the_name_of_a_strength():
    code = codes.concept_code("femur_strength_fall_minimum", "femur", "L", is_calibrated=False)
    assert code.meaning == "Left femur strength, fall, min (CT-FE), uncalibrated"


def test_the_level_stands_in_the_name_of_a_vertebral_density():
    assert codes.concept_code("trabecular_vbmd", "L2", "", is_calibrated=True).meaning == "L2 trabecular vBMD"


@pytest.mark.parametrize(
    ("key", "structure", "side"),
    [
        ("femur_strength_fall_minimum", "femur", ""),
        ("femur_strength_fall_minimum", "L1", "R"),
        ("trabecular_vbmd", "femur", "R"),
        ("cortical_area", "radius", ""),
        ("cortical_area", "femur", "R"),
    ],
)
def test_a_concept_said_of_the_wrong_bone_is_refused(key, structure, side):
    with pytest.raises(ContradictoryReport, match=key):
        codes.concept_code(key, structure, side, is_calibrated=True)


def test_an_unknown_concept_is_refused_and_an_unknown_flag_is_not():
    with pytest.raises(UnknownConcept):
        codes.concept("no_such_concept")
    assert codes.finding_code("no_such_flag") == codes.OTHER_FINDING


def test_every_flag_that_can_be_raised_has_a_code_of_its_own():
    assert set(FLAGS) <= set(codes.FINDINGS)


def test_every_structure_that_can_be_labelled_can_be_named_and_coded():
    assert {label.key for label in LABELS} <= set(codes.SUBJECT_NAMES)
    assert set(concepts.VERTEBRAE) <= set(codes.STRUCTURES)
    assert set(concepts.PERIPHERAL_BONES) <= set(codes.STRUCTURES)


def test_every_pair_of_levels_that_can_be_averaged_has_a_concept():
    pairs = [("L1", "L2"), (LUMBAR_SUBSTITUTE, "L1"), (LUMBAR_SUBSTITUTE, "L2")]
    assert all(f"{a.lower()}_{b.lower()}_mean_trabecular_vbmd" in concepts.CONCEPTS for a, b in pairs)


@pytest.mark.parametrize("table", [concept_table, statement_table, finding_table, structure_table])
def test_the_documentation_lists_the_same_codes(table):
    assert table() in DOCUMENT.read_text()

"""From findings to report: side, level, unit and calibration arrive as they were measured."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from dicom_node.pipeline.analysis import Tools
from dicom_node.pipeline.report_files import load_report, save_report
from dicom_node.pipeline.results import KINDS, Findings, direction_of, report_from
from fe.femur_frame import FemurFrame
from fe.outcome import MeshField, ModelFacts
from fe.sensitivity import MaskStep, Sensitivity
from fe.strength import CaseStrength, FemurStrength
from inference.calibration import DEFAULT_CALIBRATION, CalibrationRecord
from inference.densitometry import Density, lumbar_mean
from inference.labels import BY_KEY
from inference.quality import QualityFlag
from inference.segmentation import Segmentation, SegmenterIdentity
from inference.volume import Volume
from sr_export.codes import concept

SHAPE = (12, 30, 40)
RECORD = CalibrationRecord(
    "esp-2026", "Maker", "CT", 120.0, "", "K2HPO4", "Mindways", 0.8, 1.0, date(2026, 1, 1), date(2026, 12, 31)
)


def density(structure: str, value: float, region: str = "trabecular_core") -> Density:
    box = (slice(4, 8), slice(10, 14), slice(18, 22))
    voi = np.ones((4, 4, 4), bool)
    return Density(structure, region, value, value - 2, value + 2, 0.5, 100.0, 20.0, 1728.0, voi, box, SHAPE)  # type: ignore[arg-type]


def strength(side: str, stance: float, fall: float) -> FemurStrength:
    cases = tuple(
        CaseStrength(
            name=f"{kind}{factor}", kind=kind, frontal_deg=0.0, second_deg=10.0 * factor, direction=(0, 0, -1),
            failure_load_n=load * factor, mode="compression", failure_site="femoral neck",
            failure_point_mm=(1.0, 1.0, 1.0), support_force_n=0.0, active_contact_nodes=0, iterations=9, load_steps=1,
            is_checked=True, residual=1e-7, reaction_balance=1e-8,
        )
        for kind, load in (("stance", stance), ("fall", fall))
        for factor in (2, 1)
    )  # type: ignore[arg-type]  # fmt: skip
    frame = FemurFrame.__new__(FemurFrame)
    mesh = MeshField(np.zeros((8, 3)), np.arange(8)[None], "hexahedron")
    return FemurStrength(
        side=side, cases=cases, facts=ModelFacts(10, 30, 3.0, (1.0, 2.0), 0, 9, 1e-7, 1e-8), discretisation="voxel",
        column_count=3, frame=frame, flags=(),
        risk={f"{kind}1": np.ones((4, 4, 4), np.float32) for kind in ("stance", "fall")},
        affine_mm=np.eye(4), field=mesh,
    )  # type: ignore[arg-type]  # fmt: skip


def findings(record: CalibrationRecord = DEFAULT_CALIBRATION, **changes: object) -> Findings:
    affine = np.array([[0, 0, 3.0, 0], [0, 3.0, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
    volume = Volume(np.zeros(SHAPE, np.float32), affine, tuple(f"2.25.{n}" for n in range(SHAPE[0])), "2.25.99")
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 5:10, 5:12] = BY_KEY["femur_right"].value
    labels[:, 5:10, 28:36] = BY_KEY["femur_left"].value
    labels[4:8, 8:16, 16:24] = BY_KEY["L1"].value
    densities = (density("L1", 70.0), density("L2", 80.0))
    base = Findings(
        volume=volume,
        segmentation=Segmentation(labels, SegmenterIdentity("test", "1", "ab" * 32), ()),
        record=record,
        densities=densities,
        lumbar=lumbar_mean(densities, record, ()),
        strengths={},
        sensitivities={},
        flags=(),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


TOOLS = Tools("job-1", datetime(2026, 11, 21, 9, 0, tzinfo=UTC), "NODE", (DEFAULT_CALIBRATION, ()), 1.5)


@pytest.fixture(autouse=True)
def _without_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.pipeline.results._summary", lambda one: {"element_count": one.facts.element_count})


def test_a_strength_stays_on_its_side() -> None:
    strengths = {"femur_right": strength("R", 5000.0, 2000.0), "femur_left": strength("L", 7000.0, 3000.0)}
    report, _ = report_from(findings(strengths=strengths), TOOLS)
    found = {
        (group.laterality, one.concept): one.value
        for group in report.groups
        for one in group.measurements
        if "strength" in one.concept
    }
    assert found == {
        ("R", "femur_strength_stance_minimum"): 5000.0,
        ("R", "femur_strength_stance_maximum"): 10000.0,
        ("R", "femur_strength_fall_minimum"): 2000.0,
        ("R", "femur_strength_fall_maximum"): 4000.0,
        ("L", "femur_strength_stance_minimum"): 7000.0,
        ("L", "femur_strength_stance_maximum"): 14000.0,
        ("L", "femur_strength_fall_minimum"): 3000.0,
        ("L", "femur_strength_fall_maximum"): 6000.0,
    }
    sides = {group.laterality: np.argwhere(group.region.mask)[:, 2].mean() for group in report.groups if group.region}
    assert sides["R"] < sides["L"], "columns grow to the patient's left"


def test_the_interval_is_that_of_the_outline_moved_by_one_voxel() -> None:
    loads = {-2: 1.0, -1: 1800.0, 0: 2000.0, 1: 2100.0, 2: 9000.0}
    steps = tuple(
        MaskStep(step, (0.0, 0.0, 0.0), 1.0, 1.0, {"fall_minimum": load}, {}, None, "") for step, load in loads.items()
    )
    changed = {"femur_right": Sensitivity(steps, {}, {}, ())}
    report, _ = report_from(
        findings(strengths={"femur_right": strength("R", 5000.0, 2000.0)}, sensitivities=changed), TOOLS
    )
    found = {one.concept: (one.low, one.high) for group in report.groups for one in group.measurements}
    assert found["femur_strength_fall_minimum"] == (1800.0, 2100.0)
    assert found["femur_strength_fall_maximum"] == (None, None), "no answer is no interval"


def test_failure_site_and_direction_are_those_of_the_weakest_case_and_survive_the_file(tmp_path: Path) -> None:
    weak = strength("R", 5000.0, 2000.0)
    stance, strong_stance = weak.weakest("stance"), weak.strongest("stance")
    assert stance is not None
    assert strong_stance is not None
    cases = tuple(
        replace(case, failure_site="femoral shaft", mode="tension") if case is strong_stance else case
        for case in weak.cases
    )
    report, figures = report_from(findings(strengths={"femur_right": replace(weak, cases=cases)}), TOOLS)
    (group,) = (one for one in report.groups if one.statements)
    assert {one.concept: one.text for one in group.statements} == {
        "weakest_stance_site": "femoral neck, in compression",
        "weakest_stance_direction": "0 degrees from medial to lateral, 10 degrees from front to back",
        "weakest_fall_site": "femoral neck, in compression",
        "weakest_fall_direction": "0 degrees adduction, 10 degrees internal rotation",
    }
    save_report(report, tmp_path, figures)
    assert [one.statements for one in load_report(tmp_path).groups] == [one.statements for one in report.groups]


def test_angles_that_point_the_other_way_are_said_the_other_way() -> None:
    stance, fall = (strength("R", 1.0, 1.0).weakest(kind) for kind in KINDS)
    assert stance is not None
    assert fall is not None
    assert direction_of(replace(stance, frontal_deg=-3.0, second_deg=-2.6)) == (
        "3 degrees from lateral to medial, 3 degrees from back to front"
    )
    assert direction_of(replace(fall, frontal_deg=-20.0, second_deg=-30.0)) == (
        "20 degrees abduction, 30 degrees external rotation"
    )


def test_the_headline_gives_the_weakest_and_the_strongest_direction() -> None:
    report, _ = report_from(findings(strengths={"femur_right": strength("R", 5004.0, 2000.0)}), TOOLS)
    assert "Right femur strength: stance 5000 to 10010 N in 2 directions, fall 2000 to 4000 N" in report.headline


def test_a_density_stays_on_its_level() -> None:
    report, _ = report_from(findings(), TOOLS)
    found = {g.structure: g.measurements[0].value for g in report.groups if g.structure in ("L1", "L2")}
    assert found == {"L1": 70.0, "L2": 80.0}
    (mean,) = (g for g in report.groups if g.key == "lumbar_mean")
    assert (mean.measurements[0].concept, mean.measurements[0].value) == ("l1_l2_mean_trabecular_vbmd", 75.0)


def test_every_measurement_has_a_concept_with_its_unit() -> None:
    report, _ = report_from(findings(strengths={"femur_right": strength("R", 1.0, 1.0)}), TOOLS)
    units = {one.concept: concept(one.concept).unit.value for g in report.groups for one in g.measurements}
    assert units["trabecular_vbmd"] == "mg/cm3"
    assert units["femur_strength_fall_minimum"] == "N"


def test_an_uncalibrated_result_says_so_and_has_no_category() -> None:
    report, _ = report_from(findings(), TOOLS)
    assert not report.calibration.is_calibrated
    assert "uncalibrated" in report.headline
    assert all(group.category is None for group in report.groups)


def test_a_calibrated_result_has_its_category() -> None:
    report, _ = report_from(findings(RECORD), TOOLS)
    assert report.calibration.is_calibrated
    assert "uncalibrated" not in report.headline
    assert [group.category for group in report.groups if group.key == "lumbar_mean"] == ["osteoporosis"]


def test_a_femur_that_was_seen_but_not_analysed_is_named() -> None:
    report, _ = report_from(findings(strengths={"femur_right": strength("R", 1.0, 1.0)}), TOOLS)
    assert "Not analysed: Left femur" in report.headline


def test_a_forbidding_flag_reaches_the_report_as_forbidding() -> None:
    flags = (QualityFlag("metal", "femur_left", "Metal."), QualityFlag("coarse_voxels", "study", "Coarse."))
    report, _ = report_from(findings(flags=flags), TOOLS)
    assert {(one.code, one.subject): one.forbids for one in report.findings} == {
        ("metal", "femur_left"): True,
        ("coarse_voxels", "study"): False,
    }


def test_a_femur_with_a_density_and_no_strength_is_not_called_unanalysed() -> None:
    report, _ = report_from(findings(densities=(density("femur_right", 200.0, "femoral_neck"),), lumbar=None), TOOLS)
    assert report.headline == "No strength: Right femur; see findings. Not analysed: Left femur; see findings."


def test_nothing_measured_is_said_with_its_reason() -> None:
    flags = (QualityFlag("air_gaps", "study", "Thin planes of air."),)
    report, _ = report_from(findings(densities=(), lumbar=None, flags=flags), TOOLS)
    assert report.headline == "No density and no strength is reported. Thin planes of air."
    assert report.groups == ()


def test_a_report_on_disk_is_the_same_report(tmp_path: Path) -> None:
    report, figures = report_from(findings(RECORD, strengths={"femur_right": strength("R", 5.0, 4.0)}), TOOLS)
    save_report(report, tmp_path, figures)
    again = load_report(tmp_path)
    for name in (
        "job_reference",
        "created",
        "headline",
        "findings",
        "calibration",
        "algorithms",
        "technical",
        "limits",
    ):
        assert getattr(again, name) == getattr(report, name), name
    assert [g.measurements for g in again.groups] == [g.measurements for g in report.groups]
    for one, other in zip(again.regions, report.regions, strict=True):
        assert one.key == other.key
        assert np.array_equal(one.mask, other.mask)
    for one, other in zip(again.pictures, report.pictures, strict=True):
        assert np.array_equal(one.rgb, other.rgb)
    assert again.groups[-1].region is not None

"""What a rule asked for and what a study lacked reach the analysis and its report."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from test_pipeline_results import findings

from dicom_node.pipeline.analysis import PIPELINE_BONES, Tools, asked_for
from dicom_node.pipeline.results import report_from
from dicom_node.pipeline.routing_rules import EVERY_CT
from inference.calibration import DEFAULT_CALIBRATION
from inference.labels import BY_KEY
from inference.quality import QualityFlag
from inference.segmentation import Segmentation, SegmenterIdentity
from sr_export.codes import FINDINGS

TOOLS = Tools("job", datetime(2026, 3, 1, tzinfo=UTC), "NODE", (DEFAULT_CALIBRATION, ()), 3.0)


def everything() -> Segmentation:
    """One voxel of every structure, and a flag on each."""
    labels = np.array([[[one.value for one in BY_KEY.values()]]], np.uint8)
    flags = tuple(QualityFlag("metal", key, "x") for key in ("study", *BY_KEY))
    return Segmentation(labels, SegmenterIdentity("s", "1", "0"), flags)


def test_every_structure_belongs_to_one_pipeline() -> None:
    keys = [key for bones in PIPELINE_BONES.values() for key in bones]
    assert sorted(keys) == sorted(BY_KEY)
    assert tuple(PIPELINE_BONES) == EVERY_CT.pipelines == TOOLS.pipelines


@pytest.mark.parametrize("pipeline", sorted(PIPELINE_BONES))
def test_only_the_bones_that_were_asked_for_are_kept_with_their_flags(pipeline: str) -> None:
    kept = asked_for(everything(), (pipeline,))
    wanted = {BY_KEY[key].value for key in PIPELINE_BONES[pipeline]}
    assert set(np.unique(kept.labels)) - {0} == wanted
    assert {flag.subject for flag in kept.flags} == {"study", *PIPELINE_BONES[pipeline]}
    assert kept.labels.dtype == np.uint8


def test_a_study_for_both_pipelines_is_left_as_it_is() -> None:
    found = everything()
    assert asked_for(found, ("hip", "spine")) is found


def test_the_report_says_what_was_not_asked_for_and_what_lacked() -> None:
    tools = replace(TOOLS, pipelines=("spine",), incomplete="PACS has 300 instances of the study, here are 297.")
    report, _ = report_from(findings(), tools)
    (finding,) = (one for one in report.findings if one.code == "incomplete_study")
    assert "PACS has 300" in finding.sentence
    assert not finding.forbids
    assert finding.code in FINDINGS
    assert any("Only the spine was asked for" in limit for limit in report.limits)
    plain, _ = report_from(findings(), TOOLS)
    assert "incomplete_study" not in {one.code for one in plain.findings}
    assert not any("asked for" in limit for limit in plain.limits)

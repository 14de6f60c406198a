"""A person corrects the segmentation in a viewer and sends it back: a new run, and a report that cites the old one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from test_main_job import JOB_TIME_LIMIT_S, results_in, searched

from dicom_node.demo.fake_ct import FakePatient
from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import AE_TITLE, Orthanc
from dicom_node.net.scu import Address, send_files
from dicom_node.pipeline.report_files import load_report
from inference.labels import BY_KEY
from tests.conftest import wait_for

pytestmark = [pytest.mark.real_data, pytest.mark.needs_binary]

OPERATOR, REASON = "Corrector^Clara", "neck was cut off"


def delivered(node: LocalNode, count: int) -> dict[str, Any]:
    """Wait until so many jobs are done and the newest one's results are delivered; return it."""

    def end() -> dict[str, Any] | None:
        jobs = node.get("/api/jobs")
        assert all(job["state"] != "failed" for job in jobs), jobs
        is_over = len(jobs) == count and all(job["state"] == "done" for job in jobs)
        return jobs[0] if is_over and all(one["state"] == "SENT" for one in jobs[0]["deliveries"]) else None

    return dict(wait_for(end, JOB_TIME_LIMIT_S, f"job {count}"))


def corrected(seg_path: Path, slices: list[Path], path: Path) -> Path:
    """Write what a viewer writes after a person removed L5 and the lower part of the right femur."""
    seg = hd.seg.segread(seg_path)
    images = [dcmread(one) for one in slices]
    descriptions, masks = [], []
    for number in seg.segment_numbers:
        description = seg.get_segment_description(number)
        if description.segment_label.startswith("L5"):
            continue
        mask = seg.get_pixels_by_source_instance(
            [image.SOPInstanceUID for image in images],
            segment_numbers=[number],
            assert_missing_frames_are_empty=True,
            ignore_spatial_locations=True,
        )[..., 0]
        if description.segment_label == BY_KEY["femur_right"].name:
            kept = np.flatnonzero(mask.any(axis=(1, 2)))
            mask[kept[:2] if images[0].ImagePositionPatient[2] < images[-1].ImagePositionPatient[2] else kept[-2:]] = 0
        masks.append(mask > 0)
        descriptions.append(
            hd.seg.SegmentDescription(
                len(masks),
                description.segment_label,
                description.segmented_property_category,
                description.segmented_property_type,
                "MANUAL",
            )
        )
    made = hd.seg.Segmentation(
        source_images=images,
        pixel_array=np.stack(masks, axis=-1).astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=77,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Viewer",
        manufacturer_model_name="Viewer",
        software_versions="1",
        device_serial_number="1",
        content_creator_name=OPERATOR,
        content_description=REASON,
    )
    made.save_as(path)
    return path


def test_a_corrected_segmentation_is_measured_and_the_new_report_cites_the_old_and_rejects_it(
    make_node: Callable[..., LocalNode],
    make_orthanc: Callable[[LocalNode], Orthanc],
    patient_files: list[Path],
    tmp_path: Path,
) -> None:
    node = make_node(reject_superseded=True)
    orthanc = make_orthanc(node)
    study = str(dcmread(patient_files[0], stop_before_pixels=True).StudyInstanceUID)
    orthanc.take(patient_files)
    send_files(Address(node.ae_title, "127.0.0.1", node.dicom_port, AE_TITLE), patient_files)
    first = delivered(node, 1)
    before = results_in(orthanc, study, tmp_path / "first")
    (old_report,) = (ds for ds in before if ds.Modality == "SR")
    bones = min((ds for ds in before if ds.Modality == "SEG"), key=lambda ds: ds.SeriesNumber)
    path = corrected(Path(bones.filename), patient_files, tmp_path / "corrected.dcm")
    send_files(Address(node.ae_title, "127.0.0.1", node.dicom_port, AE_TITLE), [path])
    second = delivered(node, 2)
    known = {ds.SOPInstanceUID for ds in before}
    new = [ds for ds in results_in(orthanc, study, tmp_path / "second") if ds.SOPInstanceUID not in known]
    (report,) = (ds for ds in new if ds.Modality == "SR")
    cited = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert cited.ReferencedSOPInstanceUID == old_report.SOPInstanceUID
    (note,) = (ds for ds in new if ds.Modality == "KO")
    references = [item.get("ReferencedSOPSequence") for item in note.ContentSequence]
    assert {one[0].ReferencedSOPInstanceUID for one in references if one} == known
    said = report.to_json()
    assert f"Segmentation corrected by {OPERATOR.replace('^', ' ')}: {REASON}." in said
    assert OPERATOR in said, "the person is an observer of the report"
    assert str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) in said
    kinds = {item.SegmentAlgorithmType for ds in new if ds.Modality == "SEG" for item in ds.SegmentSequence}
    assert kinds == {"SEMIAUTOMATIC"}
    masks = {
        job["id"]: {
            region.key: region.mask
            for region in load_report(node.data_dir / "research/jobs" / job["id"] / "report").regions
        }
        for job in (first, second)
    }
    old, made = masks[first["id"]], masks[second["id"]]
    assert "L5" in old
    assert "L5" not in made
    assert 0 < made["femur_right"].sum() < old["femur_right"].sum()
    assert not (made["femur_right"] & ~old["femur_right"]).any()
    np.testing.assert_array_equal(made["L3"], old["L3"])
    algorithm = next(
        a for a in node.get(f"/api/jobs/{second['id']}")["report"]["algorithms"] if a["key"] == "segmentation"
    )
    assert algorithm["name"] == "Segmentation corrected by a person"
    identifiers = (*FakePatient().identifiers, study, *OPERATOR.split("^"), REASON)
    assert searched(node.data_dir / "research", identifiers) == {}
    assert not [word for word in identifiers if word in (tmp_path / "node.log").read_text()]

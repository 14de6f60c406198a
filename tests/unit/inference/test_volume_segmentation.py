"""The classical segmenter gives labels on the volume's own grid, with an identity that follows its source."""

import ast
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from volume_factories import make_volume

import inference
from inference import segmentation
from inference.errors import SegmentationError
from inference.labels import BY_KEY
from inference.quality import QualityFlag
from inference.segmentation import CLASSICAL_MODULES, ClassicalSegmenter, source_checksum
from inference.volume import Volume

SOURCE = Path(str(inference.__file__)).parent
INERT = {"errors", "quality"}
"""Modules that say things about labels and never decide one."""

FLAG = QualityFlag("metal", "femur_left", "")


def imported_modules(module: str) -> set[str]:
    """Names of the modules of the package that a module imports."""
    tree = ast.parse((SOURCE / f"{module}.py").read_text())
    froms = (node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module)
    return {name.removeprefix("inference.") for name in froms if name.startswith("inference.")}


def test_the_checksum_covers_every_module_that_decides_a_label() -> None:
    reached, waiting = set(), {"femur", "spine"}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= imported_modules(module) - reached
    assert set(CLASSICAL_MODULES) == reached - INERT
    assert list(CLASSICAL_MODULES) == sorted(CLASSICAL_MODULES)


def test_the_checksum_is_a_sha256_that_follows_names_and_source() -> None:
    assert len(source_checksum(CLASSICAL_MODULES)) == 64
    assert source_checksum(("labels",)) == source_checksum(("labels",))
    assert source_checksum(("labels",)) != source_checksum(("quality",))
    assert ClassicalSegmenter().identity.checksum == source_checksum(CLASSICAL_MODULES)


@pytest.fixture
def made_parts(monkeypatch: pytest.MonkeyPatch) -> list[Volume]:
    """Replace the two algorithms by thresholds, and record the volumes they are given."""
    given: list[Volume] = []

    def hips(volume: Volume) -> tuple[NDArray[np.uint8], tuple[QualityFlag, ...]]:
        given.append(volume)
        return (volume.hu > 500).astype(np.uint8) * np.uint8(BY_KEY["femur_left"].value), (FLAG,)

    def spine(volume: Volume) -> tuple[NDArray[np.uint8], tuple[QualityFlag, ...]]:
        return (volume.hu > 200).astype(np.uint8) * np.uint8(BY_KEY["L1"].value), (FLAG,)

    monkeypatch.setattr(segmentation, "segment_hips", hips)
    monkeypatch.setattr(segmentation, "segment_spine", spine)
    return given


def test_labels_lie_on_the_grid_of_a_flipped_volume(made_parts: list[Volume]) -> None:
    hu = np.zeros((4, 5, 6))
    hu[1, 2, 3], hu[0, 0, 5] = 1000.0, 300.0
    affine = make_volume(hu).affine_lps
    affine[:3, :3] *= -1
    told: list[float] = []
    result = ClassicalSegmenter().segment(
        Volume(hu.astype(np.float32), affine), lambda fraction, _: told.append(fraction)
    )
    assert result.labels[1, 2, 3] == BY_KEY["femur_left"].value
    assert result.labels[0, 0, 5] == BY_KEY["L1"].value
    assert np.count_nonzero(result.labels) == 2
    assert made_parts[0].hu[2, 2, 2] == 1000.0
    assert result.labels.dtype == np.uint8
    assert result.flags == (FLAG,)
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)


@pytest.mark.parametrize(
    "labels",
    [np.zeros((4, 5, 7), np.uint8), np.zeros((4, 5, 6), np.int64), np.full((4, 5, 6), 200, np.uint8)],
    ids=["shape", "type", "value"],
)
def test_a_part_that_breaks_its_contract_is_refused(
    made_parts: list[Volume], monkeypatch: pytest.MonkeyPatch, labels: NDArray[np.uint8]
) -> None:
    monkeypatch.setattr(segmentation, "segment_spine", lambda volume: (labels, ()))
    with pytest.raises(SegmentationError, match="expected"):
        ClassicalSegmenter().segment(make_volume(np.zeros((4, 5, 6))))

"""What the JSON says of a result's mesh, material and memory limit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dicom_node.strength import sas as sas_command
from dicom_node.strength import vertebra as vertebra_command
from dicom_node.strength.mesh_figures import mesh_figures
from dicom_node.strength.outcome import Choices
from fe.outcome import MeshField
from fe.vertebra import VertebraSettings, vertebra_strength
from fe.vertebra_specimen import synthetic_vertebra
from tests.unit.dicom_node.fe_files import blob, write_image
from tests.unit.dicom_node.test_fe_bone import bone_of

CHOICES = Choices(element_mm=None, discretisation="voxel", with_sensitivity=True, memory_limit_bytes=2**31)
SPACING_MM = (3.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def vertebra() -> Any:
    body = synthetic_vertebra(SPACING_MM)
    return vertebra_strength(
        body.rho_qct_mg_per_cm3, body.mask, SPACING_MM, "L1", element_mm=8.0, settings=VertebraSettings(steps=1)
    )


def test_tetrahedra_have_their_shapes_in_the_json_and_bricks_none(vertebra: Any) -> None:
    figures = mesh_figures(vertebra.field())["mesh_quality"]
    assert figures["element_count"] == vertebra.facts.element_count
    assert figures["volume_mm3"] == pytest.approx(vertebra.body_volume_mm3, rel=1e-9)
    assert 0 < figures["min_dihedral_deg"] < 70.6  # a regular tetrahedron's
    assert mesh_figures(MeshField(np.zeros((8, 3)), np.arange(8)[None], "hexahedron")) == {}


def test_a_vertebras_json_holds_its_mesh_and_says_what_its_density_is(vertebra: Any, tmp_path: Any) -> None:
    image = write_image(tmp_path / "image.nii.gz", 100.0 * blob().astype(np.float32))
    bone = bone_of(image, write_image(tmp_path / "mask.nii.gz", blob()))
    values: dict[str, Any] = vertebra_command._values(vertebra, bone)
    assert values["mesh_quality"]["element_count"] == vertebra.facts.element_count
    (material,) = values["materials"]
    assert material["density"] == f"as calibrated ({bone.scan.material}), not converted between K2HPO4 and HA"


def test_the_memory_limit_holds_for_changed_masks_of_the_softening_model_too(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []

    def base(*arguments: Any, memory_limit_bytes: int, **options: Any) -> Any:
        given.append(memory_limit_bytes)
        return _Anything()

    def changed(*arguments: Any, memory_limit_bytes: int, **options: Any) -> None:
        given.append(memory_limit_bytes)

    monkeypatch.setattr(sas_command, "sas_strength", base)
    monkeypatch.setattr(sas_command, "sas_sensitivity", changed)
    monkeypatch.setattr(sas_command, "_values", lambda result, bone: {})
    monkeypatch.setattr(sas_command, "with_sensitivity", lambda outcome, bone, run, progress: run(progress))
    bone: Any = _Anything()
    sas_command.run_sas(bone, replace(CHOICES, memory_limit_bytes=123), lambda fraction, text: None)
    assert given == [123, 123]


class _Anything:
    """Stands for a bone and for a result of which no value matters."""

    def __getattr__(self, name: str) -> float:
        return 1.0

"""What ``osteonode fe`` writes: JSON without NaN or paths, meshes that read back, sentences where something lacks."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from dicom_node.cli import _parser, main
from dicom_node.strength import run
from dicom_node.strength.mesh_file import write_vtu
from dicom_node.strength.models import MODELS
from dicom_node.strength.outcome import Outcome
from dicom_node.strength.result_file import plain, result_json
from fe.flags import ModelFlag
from fe.outcome import MeshField, ModelFacts
from tests.unit.dicom_node.fe_files import blob, write_image
from tests.unit.dicom_node.test_fe_bone import bone_of

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
FACTS = ModelFacts(10, 30, 2.0, (1.0, 9.0), 0, 5, 1e-7, float("nan"))
VOXEL_MM = 0.082


@pytest.fixture
def specimen(tmp_path: Path) -> tuple[Path, Path]:
    """Four struts between two plates, as large as a few voxels."""
    bone = np.zeros((8, 8, 8), np.uint8)
    bone[:, 1:3, 1:3] = bone[:, 5:7, 5:7] = bone[:, 1:3, 5:7] = bone[:, 5:7, 1:3] = 1
    bone[0], bone[-1] = 1, 1
    return (
        write_image(tmp_path / "Quistgaard_Wilhelmine.nii.gz", 900.0 * bone.astype(np.float32), (VOXEL_MM,) * 3),
        write_image(tmp_path / "mask.nii.gz", bone, (VOXEL_MM,) * 3),
    )


def outcome(**changes: object) -> Outcome:
    values: dict[str, object] = {
        "headline": "L1: 5 N.",
        "rows": (("strength", "5", "N"),),
        "values": {"strength": {"failure_load_n": np.float32(5.0), "nothing_n": np.inf}},
        "facts": FACTS,
        "flags": (ModelFlag("short_shaft", "Short.", (("a_mm", 1.0),)),),
        "fields": {},
        "draw": lambda: iter(()),
    }
    return Outcome(**{**values, **changes})


def test_json_holds_results_flags_checksums_and_no_nan(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.nii.gz", 100.0 * blob().astype(np.float32))
    bone = bone_of(image, write_image(tmp_path / "mask.nii.gz", blob()), density_material=None)
    text = result_json("vertebra", bone, outcome(), NOW).decode()
    found = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert found["schema"] == "osteonode-fe-1"
    assert found["strength"] == {"failure_load_n": 5.0, "nothing_n": None}
    assert found["facts"]["reaction_balance"] is None
    assert found["facts"]["youngs_modulus_maximum_mpa"] == 9.0
    assert found["bone"] == {"key": "L1", "name": "L1 vertebral body", "side": None, "level": "L1"}
    assert found["input"]["mask"]["volume_mm3"] == 60 * 8
    assert len(found["input"]["image"]["sha256"]) == 64
    assert found["calibration"]["record_id"] == "default"
    assert [flag["code"] for flag in found["flags"] if flag["of"] == "model"] == ["short_shaft"]
    assert "uncalibrated" in [flag["code"] for flag in found["flags"]]


def test_every_dimensional_key_of_the_json_ends_in_its_unit(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.nii.gz", 100.0 * blob().astype(np.float32))
    bone = bone_of(image, write_image(tmp_path / "mask.nii.gz", blob()), density_material=None)
    keys = set(json.loads(result_json("vertebra", bone, outcome(), NOW))["input"]["image"])
    assert keys == {"kind", "sha256", "shape", "spacing_mm", "affine_lps_mm", "manufacturer", "kvp_kv"} | {
        "convolution_kernel"
    }


def test_what_is_no_number_list_or_text_is_refused_by_the_json() -> None:
    assert plain({"a": (np.int64(1), [float("nan")])}) == {"a": [1, [None]]}
    with pytest.raises(TypeError):
        plain({"a": object()})


@pytest.mark.parametrize(("cell_type", "nodes"), [("hexahedron", 8), ("quadratic_tetra", 10)])
def test_a_mesh_file_reads_back_with_the_same_cells_and_values_in_the_patient(
    tmp_path: Path, cell_type: str, nodes: int
) -> None:
    pyvista = pytest.importorskip("pyvista")
    turn = (0.98, 0.199, 0.0, -0.199, 0.98, 0.0, 0.0, 0.0, 1.0)  # oblique by 11.5 degrees
    image, mask = (write_image(tmp_path / name, blob(), directions=turn) for name in ("i.nii", "m.nii"))
    bone = bone_of(image, mask)
    rng = np.random.default_rng(3)
    field = MeshField(
        points_mm=rng.random((nodes + 2, 3)),
        cells=np.array([np.arange(nodes), np.arange(2, nodes + 2)]),
        cell_type=cell_type,
        cell_values={"youngs_modulus_mpa": np.array([1.5, 2.5])},
        point_values={"displacement_mm": rng.random((nodes + 2, 3)), "endplate": rng.random(nodes + 2)},
    )
    write_vtu(field, bone, tmp_path / "field.vtu")
    grid = pyvista.read(tmp_path / "field.vtu")
    assert grid.n_cells == 2
    np.testing.assert_array_equal(grid.cell_connectivity, field.cells.ravel())
    assert set(grid.celltypes) == {{"hexahedron": 12, "quadratic_tetra": 24}[cell_type]}
    np.testing.assert_allclose(grid.cell_data["youngs_modulus_mpa"], [1.5, 2.5])
    np.testing.assert_allclose(grid.point_data["endplate"], field.point_values["endplate"])
    np.testing.assert_allclose(grid.points, bone.to_patient(field.points_mm), rtol=1e-6)
    matrix = bone.to_patient(np.eye(3)) - bone.to_patient(np.zeros((1, 3)))
    np.testing.assert_allclose(grid.point_data["displacement_mm"], field.point_values["displacement_mm"] @ matrix)


DOCUMENT = Path(__file__).parents[3] / "docs" / "fe-command.md"


def test_every_option_of_the_command_and_every_model_is_documented() -> None:
    text = DOCUMENT.read_text()
    actions = _parser()._subparsers._group_actions[0].choices["fe"]._actions
    options = [action.option_strings[-1] for action in actions if action.option_strings and action.dest != "help"]
    assert [option for option in options if option not in text] == []
    assert [model for model in MODELS if f"| `{model}` |" not in text] == []
    assert set(next(action for action in actions if action.dest == "model").choices) == set(MODELS)


def test_every_key_of_the_json_is_documented(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.nii.gz", 100.0 * blob().astype(np.float32))
    bone = bone_of(image, write_image(tmp_path / "mask.nii.gz", blob()))
    text = DOCUMENT.read_text()
    assert [key for key in json.loads(result_json("vertebra", bone, outcome(), NOW)) if f"`{key}" not in text] == []


def fe(*words: object) -> int:
    return main(["fe", *map(str, words)])


def command(specimen: tuple[Path, Path], out: Path, *more: object) -> int:
    return fe(specimen[0], "--mask", specimen[1], "--model", "microfe", "--out", out, *more)


def test_without_the_extra_the_json_is_written_and_a_sentence_says_how_to_install_it(
    specimen: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "has_graphics", lambda: False)
    assert command(specimen, tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["microfe.json"]
    assert "pip install 'osteonode[fe]'" in capsys.readouterr().out


def test_no_name_of_a_path_reaches_the_json(
    specimen: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "has_graphics", lambda: False)
    command(specimen, tmp_path / "out")
    text = (tmp_path / "out" / "microfe.json").read_text()
    assert "Quistgaard" not in text
    assert str(tmp_path) not in text


def test_a_folder_in_use_is_kept_unless_it_may_be_overwritten(
    specimen: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "has_graphics", lambda: False)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("notes.txt", "microfe-energy.png", "sas.json"):
        (out / name).write_text("old")
    assert command(specimen, out) == 1
    assert "--overwrite" in capsys.readouterr().out
    assert command(specimen, out, "--overwrite") == 0
    assert {path.name for path in out.iterdir()} == {"notes.txt", "sas.json", "microfe.json"}
    assert command(specimen, specimen[1]) == 1
    assert "is a file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "vertebra"], "--level"),
        (["--model", "microfe", "--side", "R"], "--side has no meaning"),
        (["--model", "microfe", "--sensitivity"], "--sensitivity has no meaning"),
        (["--model", "sas", "--side", "R", "--discretisation", "tetra"], "--discretisation has no meaning"),
        (["--model", "sas", "--density-mg-per-cm3", "HA", "--record", "x"], "needs no calibration"),
        (["--model", "microfe", "--threads", "100000"], "this process may use 1 to"),
        (["--model", "sas", "--element-mm", "-1"], "no positive number"),
        (["--model", "ct2s"], "--side R"),
    ],
)
def test_what_does_not_go_together_is_a_sentence_and_exit_code_1(
    specimen: tuple[Path, Path], tmp_path: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fe(specimen[0], "--mask", specimen[1], "--out", tmp_path / "out", *words) == 1
    assert sentence in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_used_are_sentences_and_leave_no_folder(
    specimen: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = specimen
    (tmp_path / "empty").mkdir()
    for words, sentence in (
        ((image, "--mask", tmp_path / "none.nii"), "no file"),
        ((image, "--mask", DOCUMENT), "of no known kind"),
        ((tmp_path / "empty", "--mask", mask), "holds no files"),
        ((tmp_path / "none", "--mask", mask), "no file or folder"),
        ((image, "--mask", mask, "--label", "9"), "no voxel has --label 9"),
        ((image, "--mask", image), "have no material"),
    ):
        code = fe(*words, "--model", "microfe", "--out", tmp_path / "out")
        printed = " ".join(capsys.readouterr().out.split())
        assert code == 1
        assert sentence in printed
        assert not (tmp_path / "out").exists()


def test_an_error_of_the_engine_is_its_sentence(
    specimen: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apart = np.zeros((8, 8, 8), np.uint8)
    apart[0], apart[-1] = 1, 1
    mask = write_image(tmp_path / "apart.nii.gz", apart, (VOXEL_MM,) * 3)
    assert fe(specimen[0], "--mask", mask, "--model", "microfe", "--out", tmp_path / "out") == 1
    printed = capsys.readouterr().out
    assert "Error:" in printed
    assert "end face to the other" in " ".join(printed.split())


def test_a_flag_that_forbids_a_strength_stops_the_model_unless_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.zeros((10, 12, 12), np.uint8)
    labels[0:9, 3:9, 3:9] = 1
    files = [write_image(tmp_path / name, labels, (4.0, 2.0, 2.0)) for name in ("i.nii", "m.nii")]
    words = [files[0], "--mask", files[1], "--model", "vertebra", "--level", "L1", "--out", tmp_path / "out"]
    assert fe(*words) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "Slices are 4.00 mm thick" in printed
    assert "--despite-flags" in printed


def test_the_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with run.limited_cores(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_a_result_that_was_computed_survives_a_picture_that_cannot_be_drawn(
    specimen: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*words: object) -> None:
        raise RuntimeError("no graphics here")

    monkeypatch.setattr(run, "write_vtu", fails)
    with pytest.raises(RuntimeError):
        command(specimen, tmp_path / "out")
    assert (tmp_path / "out" / "microfe.json").exists()

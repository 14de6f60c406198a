"""Pictures: a point is where the picture shows it, letters tell the patient's sides, marks do not hide the bone."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dicom_node.strength.charts import curve_chart, direction_chart, step_chart
from dicom_node.strength.plates import Mark, Picture3D, Scale, _letter, plate
from dicom_node.strength.scene import (
    ABOVE,
    BACK,
    CAMERAS,
    FROM_LEFT,
    FROM_RIGHT,
    FRONT,
    Camera,
    Part,
    best_camera,
    is_seen,
    render,
    section,
    surface,
)
from sr_export.polar import Direction


@pytest.fixture(scope="module")
def pv():
    return pytest.importorskip("pyvista", reason="pictures are the extra fe")


@pytest.mark.parametrize("camera", [FRONT, FROM_LEFT, ABOVE], ids=lambda camera: camera.name)
def test_a_point_lies_where_the_picture_shows_it(pv, camera: Camera) -> None:
    point = np.array([20.0, -12.0, 7.0])
    ball = Part(pv.Sphere(radius=2.0, center=point), colour="black")
    frame = Part(pv.Box((-30, 30, -30, 30, -30, 30)), colour="white", opacity=0.0)
    view = render([frame, ball], camera)
    rows, columns = np.nonzero(view.rgb.max(axis=2) < 200)
    per_mm = view.rgb.shape[0] / view.height_mm
    across, up = columns.mean() / per_mm - view.width_mm / 2, view.height_mm / 2 - rows.mean() / per_mm
    assert (across, up) == pytest.approx(view.place(point), abs=0.3)


@pytest.mark.parametrize(
    ("camera", "letters"), [(FRONT, "RL"), (BACK, "LR"), (FROM_LEFT, "AP"), (FROM_RIGHT, "PA"), (ABOVE, "RL")]
)
def test_letters_tell_the_ends_of_a_picture(camera: Camera, letters: str) -> None:
    assert _letter(-camera.right) + _letter(camera.right) == letters
    assert np.dot(camera.sight, camera.up) == 0


def test_a_place_is_seen_from_its_own_side_only(pv) -> None:
    ball = pv.Sphere(radius=10.0)
    assert best_camera(ball, (0, 0, 10), CAMERAS, 1.0) is ABOVE
    assert best_camera(ball, (9.9, 0, 0), CAMERAS, 1.0) is FROM_LEFT
    assert is_seen(ball, (0, -10, 0), FRONT, 1.0)
    assert not is_seen(ball, (0, -10, 0), BACK, 1.0)


def test_rounding_the_steps_of_bricks_keeps_cells_and_place(pv) -> None:
    bricks = pv.ImageData(dimensions=(9, 9, 9)).cast_to_unstructured_grid()
    bricks = bricks.extract_cells(np.flatnonzero(np.linalg.norm(bricks.cell_centers().points - 4, axis=1) < 3.6))
    bricks.cell_data["value"] = np.arange(bricks.n_cells, dtype=float)
    rounded = surface(bricks)
    assert set(rounded.cell_data["value"]) <= set(bricks.cell_data["value"])
    assert np.abs(np.array(rounded.bounds) - bricks.bounds).max() < 0.8
    cut = section(bricks, "y")
    assert cut.bounds[2] >= 3.5


def test_a_plate_holds_views_scale_and_charts(pv) -> None:
    ball = pv.Sphere(radius=10.0)
    ball.cell_data["value"] = ball.cell_centers().points[:, 2]
    view = render([Part(ball, "value", "viridis", (-10.0, 10.0))], FRONT)
    png = plate(
        "Right femur",
        "a line",
        caution="Research use only.",
        views=[Picture3D(view, "from the front", (Mark((0.0, -10.0, 0.0), "here"),))],
        scale=Scale("height, mm", "viridis", (-10.0, 10.0)),
        charts=[
            curve_chart([0, 1, 2], [0, 900, 800], marks=((1, 900, "strength"),)),
            direction_chart(
                "Fall", [Direction(turn, 10.0, 3000.0 + turn) for turn in (-30, 0, 30)], "towards proximal"
            ),
            step_chart({"strength": [(-1.0, 900.0), (0.0, 1000.0)]}),
        ],
    )
    image = Image.open(BytesIO(png))
    assert image.size[0] > 1500
    assert np.asarray(image.convert("L"))[0].min() == 255

"""Endplates and bodies of synthetic and real vertebrae."""

import numpy as np
import pytest
from scipy import ndimage

from fe.endplates import find_endplates
from fe.errors import EndplatesNotFound, LandmarkNotFound
from fe.gallery import synthetic_femur
from fe.tetra.mesh import boundary_faces, quadratic_mesh
from fe.vertebra_specimen import HALF_DEPTH_MM, synthetic_vertebra
from fe.vertebral_body import mask_surface, vertebral_body

ANGLE_DEG = 1.5
"""A surface from voxels of 1 mm shows an endplate of 40 by 30 mm; its rounded rim is wider where the wedge is thin."""

COARSE_ANGLE_DEG = 4.0
"""With slices of 3 mm a plane of 32 mm length holds 11 steps of 5 degrees."""


def angle_deg(one, other):
    return float(np.degrees(np.arccos(np.clip(np.dot(one, other), -1, 1))))


def plates_of(vertebra, mask=None):
    return find_endplates(*mask_surface(vertebra.mask if mask is None else mask, vertebra.spacing_mm))


@pytest.mark.parametrize(
    ("tilt_deg", "wedge_deg", "lean_deg"),
    [(0, 0, 0), (15, 5, 0), (35, 15, 0), (40, 0, 0), (-30, -10, 0), (0, 20, 0), (10, 5, 20)],
)
def test_the_endplates_of_a_tilted_and_wedged_body_are_found(tilt_deg, wedge_deg, lean_deg):
    vertebra = synthetic_vertebra(tilt_deg=tilt_deg, wedge_deg=wedge_deg, lean_deg=lean_deg)
    plates = plates_of(vertebra)
    assert angle_deg(plates.superior.normal, vertebra.superior_normal) < ANGLE_DEG
    assert angle_deg(plates.inferior.normal, vertebra.inferior_normal) < ANGLE_DEG
    assert angle_deg(plates.axis, vertebra.axis) < ANGLE_DEG
    assert plates.height_mm == pytest.approx(vertebra.height_mm, abs=1.0)
    assert plates.wedge_deg == pytest.approx(abs(wedge_deg), abs=2 * ANGLE_DEG)
    front, middle, back = plates.edge_heights_mm
    between_thirds_mm = 2 / 3 * 2 * HALF_DEPTH_MM
    opening_mm = 2 * np.tan(np.radians(wedge_deg / 2)) * between_thirds_mm
    assert front - back == pytest.approx(opening_mm, rel=0.25, abs=0.5)  # the rounded rims do not count
    assert min(front, back) - 1 < middle < max(front, back) + 1


@pytest.mark.parametrize("spacing_mm", [(3.0, 0.8, 0.8), (3.0, 3.0, 3.0), (0.7, 1.5, 1.0)])
def test_anisotropic_and_coarse_voxels_show_the_same_endplates(spacing_mm):
    vertebra = synthetic_vertebra(spacing_mm, tilt_deg=20, wedge_deg=8)
    plates = plates_of(vertebra)
    assert angle_deg(plates.superior.normal, vertebra.superior_normal) < COARSE_ANGLE_DEG
    assert angle_deg(plates.inferior.normal, vertebra.inferior_normal) < COARSE_ANGLE_DEG
    assert plates.height_mm == pytest.approx(vertebra.height_mm, abs=max(spacing_mm) / 2)


def test_a_mirrored_body_has_mirrored_endplates():
    vertebra = synthetic_vertebra((2.0, 1.5, 1.5), tilt_deg=10, lean_deg=12)
    one, other = plates_of(vertebra), plates_of(vertebra, vertebra.mask[:, :, ::-1].copy())
    np.testing.assert_allclose(
        np.array(other.axis) * (-1, 1, 1), one.axis, atol=0.01
    )  # marching cubes cuts mirrored squares along the other diagonal
    assert other.superior.area_mm2 == pytest.approx(one.superior.area_mm2, rel=0.02)


def test_the_area_of_a_flat_plate_is_its_area():
    points, triangles = box_surface((40.0, 30.0, 25.0))
    plates = find_endplates(points, triangles)
    assert plates.superior.area_mm2 == pytest.approx(1200.0)
    assert plates.inferior.area_mm2 == pytest.approx(1200.0)
    assert plates.height_mm == pytest.approx(25.0)
    assert plates.superior.roughness_mm == pytest.approx(0.0, abs=1e-9)


def test_two_surfaces_that_both_face_up_are_told_apart_by_their_area():
    points, triangles = box_surface((40.0, 30.0, 25.0))
    step, step_triangles = box_surface((4.0, 4.0, 25.0))
    both = np.concatenate((points, step + np.array((100.0, 0, 0))))
    plates = find_endplates(both, np.concatenate((triangles, step_triangles + len(points))))
    assert plates.superior.area_mm2 == pytest.approx(1200.0)


def box_surface(size):
    corners = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * np.array(size)
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    return corners, np.array([(q[0], q[i], q[i + 1]) for q in quads for i in (1, 2)])


@pytest.mark.parametrize(("tilt_deg", "wedge_deg"), [(0, 0), (20, 10)])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_the_arch_is_cut_from_a_whole_vertebra(tilt_deg, wedge_deg, spacing_mm):
    vertebra = synthetic_vertebra(spacing_mm, tilt_deg=tilt_deg, wedge_deg=wedge_deg, has_arch=True)
    cut = vertebral_body(vertebra.mask, spacing_mm)
    dice = 2 * (cut.mask & vertebra.body).sum() / (cut.mask.sum() + vertebra.body.sum())
    assert dice > 0.95
    assert cut.arch_fraction == pytest.approx(1 - vertebra.body.sum() / vertebra.mask.sum(), abs=0.05)


def test_a_body_alone_is_left_as_it_is():
    vertebra = synthetic_vertebra(tilt_deg=15, wedge_deg=8)
    cut = vertebral_body(vertebra.mask, vertebra.spacing_mm)
    assert cut.arch_fraction == 0
    assert cut.mask is vertebra.mask


def test_the_surface_of_a_mask_looks_outwards_and_encloses_it():
    vertebra = synthetic_vertebra((2.0, 1.0, 1.5))
    points, triangles = mask_surface(vertebra.mask, vertebra.spacing_mm)
    a, b, c = (points[triangles[:, n]] for n in range(3))
    enclosed = float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)
    assert enclosed == pytest.approx(vertebra.mask.sum() * 3.0, rel=0.04)
    centre = np.argwhere(vertebra.mask).mean(axis=0) * vertebra.spacing_mm
    np.testing.assert_allclose(points.mean(axis=0), centre[::-1], atol=1.0)


def test_a_femur_is_no_vertebra():
    femur = synthetic_femur("R", (3.0, 3.0, 3.0))
    with pytest.raises(EndplatesNotFound, match="Is the mask"):
        find_endplates(*mask_surface(femur.mask, femur.spacing_mm))
    assert issubclass(EndplatesNotFound, LandmarkNotFound)


def test_a_disc_a_ball_and_a_stack_of_vertebrae_are_no_vertebral_body():
    vertebra = synthetic_vertebra((2.0, 2.0, 2.0))
    disc = vertebra.mask.copy()
    disc[np.flatnonzero(disc.any(axis=(1, 2)))[3] :] = False
    with pytest.raises(EndplatesNotFound):
        find_endplates(*mask_surface(disc, (2.0, 2.0, 2.0)))
    zyx = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij")) - 19.5
    with pytest.raises(EndplatesNotFound):
        find_endplates(*mask_surface((zyx**2).sum(axis=0) < 7**2, (1.0, 1.0, 1.0)))
    stack = np.concatenate([ndimage.binary_fill_holes(vertebra.mask)] * 3)
    stack |= ndimage.binary_closing(stack, iterations=8)
    with pytest.raises(EndplatesNotFound, match="apart"):
        find_endplates(*mask_surface(stack, (2.0, 2.0, 2.0)))


@pytest.mark.real_data
@pytest.mark.parametrize(("label", "level"), [(27, "L5"), (28, "L4"), (29, "L3"), (30, "L2")])
def test_the_endplates_of_a_patients_lumbar_bodies_are_plausible(patient_ct, patient_bodies, label, level):
    volume, labels = patient_ct
    body = (labels == label) & (patient_bodies == 1)
    plates = find_endplates(*mask_surface(body, volume.spacing_mm))
    assert 22 < plates.height_mm < 32
    assert 0.7 < plates.superior.area_mm2 / plates.inferior.area_mm2 < 1.4
    assert plates.tilt_deg < 30
    assert plates.wedge_deg < 20
    whole = vertebral_body(labels == label, volume.spacing_mm)
    assert 2 * (whole.mask & body).sum() / (whole.mask.sum() + body.sum()) > 0.94
    assert 0.2 < whole.arch_fraction < 0.45


def test_triangles_of_a_meshs_boundary_serve_as_well():
    five_in_a_box = np.array([[0, 1, 3, 5], [0, 3, 2, 6], [0, 6, 4, 5], [3, 5, 6, 7], [0, 3, 5, 6]])
    mesh = quadratic_mesh(box_surface((40.0, 30.0, 25.0))[0], five_in_a_box)
    faces, _ = boundary_faces(mesh)
    plates = find_endplates(mesh.nodes_mm, faces[:, :3])
    assert plates.superior.area_mm2 == pytest.approx(1200.0)
    assert len(plates.superior.faces) == 2

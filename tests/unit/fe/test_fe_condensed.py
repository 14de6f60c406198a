"""The contact problem on small dense systems, and the columns it is made of."""

from itertools import product

import numpy as np
import pytest
from scipy import sparse

from fe.condensed import CondensedBody, Responses
from fe.contact import solve_contact
from fe.errors import ContactNotFound, UnsupportedModel

ROUNDING = 1e-9


def random_compliance(rng, size):
    root = rng.standard_normal((size, size))
    return root @ root.T + 0.1 * np.eye(size)


def by_enumeration(compliance, gap, motions, work):
    """Try every set of active points: slow and certain."""
    size, free = motions.shape
    for chosen in product((False, True), repeat=size):
        points = np.flatnonzero(chosen)
        system = np.block(
            [[compliance[np.ix_(points, points)], motions[points]], [motions[points].T, np.zeros((free, free))]]
        )
        if len(system) and np.linalg.matrix_rank(system) < len(system):
            continue
        solution = np.linalg.solve(system, -np.concatenate((gap[points], work))) if len(system) else np.zeros(0)
        force = np.zeros(size)
        force[points] = solution[: len(points)]
        left = gap + compliance @ force + motions @ solution[len(points) :]
        if (force >= -ROUNDING).all() and (left >= -ROUNDING).all():
            return force, left
    raise AssertionError("no set is in balance")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("hinged", [False, True])
def test_the_active_set_is_the_one_that_a_search_through_all_sets_finds(seed, hinged):
    rng = np.random.default_rng(seed)
    compliance, gap = random_compliance(rng, 7), rng.uniform(-1, 1, 7)
    motions = -rng.uniform(1, 2, (7, 1)) if hinged else np.zeros((7, 0))
    work = np.array([3.0]) if hinged else np.zeros(0)
    force, left = by_enumeration(compliance, gap, motions, work)
    found = solve_contact(compliance, gap, motions, work)
    np.testing.assert_allclose(found.force_n, force, atol=1e-7)
    np.testing.assert_allclose(found.gap_mm, left, atol=1e-7)
    assert (found.force_n >= 0).all()
    assert (found.gap_mm >= 0).all()
    assert found.force_n @ found.gap_mm == 0


def test_where_nothing_penetrates_nothing_pushes():
    found = solve_contact(np.eye(3), np.array([0.1, 0.2, 0.0]))
    assert not found.force_n.any()
    assert found.active == 0
    np.testing.assert_array_equal(found.gap_mm, (0.1, 0.2, 0.0))


def test_a_hinge_carries_its_moment_whatever_the_gaps():
    gap, arms = np.array([5.0, 4.0, 9.0]), np.array([[-300.0], [-310.0], [-320.0]])
    found = solve_contact(1e-6 * np.eye(3), gap, arms, np.array([400.0 * 1000]))
    assert float(arms[:, 0] @ found.force_n) == pytest.approx(-400_000.0)
    assert found.motion[0] == pytest.approx(4.0 / 310, rel=1e-2)


def test_a_ground_that_would_have_to_pull_is_an_error():
    with pytest.raises(ContactNotFound):
        solve_contact(np.eye(2), np.array([0.1, 0.2]), np.array([[1.0], [1.0]]), np.array([5.0]))


def test_a_hinge_that_no_point_holds_is_an_error():
    with pytest.raises(ContactNotFound):
        solve_contact(np.eye(2), np.array([0.1, 0.2]), np.zeros((2, 1)), np.array([5.0]))


@pytest.mark.parametrize(
    ("compliance", "gap"),
    [(np.eye(2), np.array([0.0, np.nan])), (np.eye(3), np.zeros(2)), (np.zeros((0, 0)), np.zeros(0))],
)
def test_arrays_that_do_not_fit_or_hold_no_numbers_are_refused(compliance, gap):
    with pytest.raises(UnsupportedModel):
        solve_contact(compliance, gap)


NODES = 5


def condensed_body():
    """Springs to the ground, one per node and component, and patches of two nodes each."""
    stiffness = np.arange(1.0, 3 * NODES + 1).reshape(3, NODES)
    weights = sparse.csr_array(np.array([[0.5, 0.5, 0, 0, 0], [0, 0, 0.25, 0.75, 0]]))
    load = np.zeros((3, 3, NODES))
    load[range(3), range(3), 4] = 1
    solved = []

    def solve(forces_n, tolerance):
        solved.append(len(forces_n))
        return Responses(forces_n / stiffness, np.full(len(forces_n), tolerance), len(forces_n))

    strains = lambda u: np.repeat(u.T[:, :2], 3, axis=1)  # noqa: E731 - any linear map will do
    return CondensedBody(solve, strains, load, weights, 1e-3), stiffness, solved


def test_a_patch_has_no_more_columns_than_it_needs():
    body, _, solved = condensed_body()
    x, slanted = np.array([1.0, 0, 0]), np.array([0.6, 0.8, 0])
    body.add([(0, x)])
    assert body.column_count == 4
    body.add([(0, slanted), (0, x), (0, np.array([0, 1.0, 0])), (0, -slanted)])
    assert body.column_count == 5
    assert list(body.spans(slanted)) == [True, False]
    assert not body.spans(np.array([0, 0, 1.0])).any()
    body.add([(0, np.array([0, 0.6, 0.8])), (0, np.ones(3) / np.sqrt(3)), (1, x)])
    assert body.column_count == 7
    assert sum(solved) == 7


def test_sums_of_columns_are_the_answers_to_sums_of_forces():
    body, stiffness, _ = condensed_body()
    normal = np.array([0.48, 0.6, 0.64])
    body.add([(0, np.array([1.0, 0, 0])), (0, normal), (1, normal)])
    factors = body.factors(np.array([1.0, 2, 3]), np.array([5.0, 7.0]), normal)
    force = body.force_under(factors)
    expected = 5 * np.outer(normal, (0.5, 0.5, 0, 0, 0)) + 7 * np.outer(normal, (0, 0, 0.25, 0.75, 0))
    expected[:, 4] = (1, 2, 3)
    np.testing.assert_allclose(force, expected, atol=1e-12)
    np.testing.assert_allclose(body.strain_under(factors)[:, 0], (force / stiffness)[0], rtol=1e-5)
    moved = body.patches @ (force / stiffness).T @ normal
    by_parts = body.compliance(normal) @ (5.0, 7.0) + body.load_displacement(np.array([1.0, 2, 3]), normal)
    np.testing.assert_allclose(by_parts, moved, rtol=1e-12)
    assert body.residual_bound(factors) >= 1e-3


def test_the_compliance_is_symmetric():
    body, _, _ = condensed_body()
    normal = np.array([0.6, 0, 0.8])
    body.add([(0, normal), (1, normal)])
    compliance = body.compliance(normal)
    np.testing.assert_allclose(compliance, compliance.T, atol=1e-12)

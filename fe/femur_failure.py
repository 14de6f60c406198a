"""The hip force at which a femur first fails, for any number of directions, from one condensed body.

In stance the strains grow with the force, and one evaluation is enough. In a fall the patch that touches the ground
grows with the force, so strains do not: the force is found by secant steps, each of them one contact problem and one
sum of strain columns. Patches that would penetrate the ground get columns, and the directions that needed them are done
again, until none penetrates.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fe.condensed import CondensedBody
from fe.contact import Contact, solve_contact
from fe.criterion import Failure, first_failure, neighbourhoods, principal_strains, risk
from fe.errors import ContactNotFound, NotConverged
from fe.femur import FemurSettings, away_from_ground, counting_places, head_loads
from fe.femur_body import FemurBody
from fe.femur_frame import FemurFrame
from fe.ground import ContactPatches, Ground, contact_patches, ground_of
from fe.load_cases import LoadCase
from fe.outcome import balanced

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Tell = Callable[[float], None]

FIRST_LOAD_N = 3000.0
"""Where the search for a failure load begins."""

LOAD_TOLERANCE = 1e-6
"""The largest averaged strain reaches its limit to this fraction."""

MAX_LOAD_STEPS = 30

FIRST_GAP_MM = 0.1
"""Patches this near to the ground before any load get columns at once: nearly all of them touch at failure."""

MAX_ROUNDS = 12
"""Each round gives columns to the patches that penetrate; falls need 2 to 4."""


CHECK_TOLERANCE = 1e-6
"""Relative residual of the whole model solved again under the forces of the weakest cases."""

CHECK_AGREEMENT = 2e-3
"""The whole model's largest strain over its limit may differ from 1 by this much before the result is refused."""


PITCH_PER_NODE_DISTANCE = 4 / 3
"""Patches are at least this many node distances apart, so that each spreads its force over several nodes."""


@dataclass(frozen=True, slots=True)
class LoadedFemur:
    """A condensed femur and where its failure counts.

    Attributes
    ----------
    body, frame, settings
        The model.
    condensed
        Its columns; grows with use.
    patches
        What may touch the ground; None where no case falls.
    places : (places,) int array
        Numbers of the body's places that count in at least one case.
    neighbours : (places, places) sparse array
        Which of them are averaged.
    """

    body: FemurBody
    frame: FemurFrame
    settings: FemurSettings
    condensed: CondensedBody
    patches: ContactPatches | None
    places: Ints
    neighbours: sparse.csr_array


@dataclass(frozen=True, slots=True)
class LoadedCase:
    """One direction, prepared.

    Attributes
    ----------
    case
        Its angles.
    direction : (3,) array
        LPS unit vector of the hip force.
    ground
        None in stance.
    counts : (places,) bool array
        Where failure counts.
    """

    case: LoadCase
    direction: Doubles
    ground: Ground | None
    counts: Bools


@dataclass(frozen=True, slots=True)
class FailedCase:
    """One direction at its failure.

    Attributes
    ----------
    loaded
        The direction.
    load_n
        Hip force at failure.
    failure
        Mode and place.
    contact
        Forces and gaps of the patches; None in stance.
    factors : (columns,) array
        Factors of the columns; columns that came later count nothing.
    load_steps
        Forces tried.
    """

    loaded: LoadedCase
    load_n: float
    failure: Failure
    contact: Contact | None
    factors: Doubles
    load_steps: int


def loaded_femur(
    body: FemurBody, frame: FemurFrame, settings: FemurSettings, cases: Sequence[LoadCase], tolerance: float
) -> LoadedFemur:
    """Condense a femur for a number of cases.

    Raises
    ------
    TrochanterNotFound
        There are falls, and nothing to fall on.
    """
    patches = None
    weights = sparse.csr_array((0, body.node_count))
    if any(case.kind == "fall" for case in cases):
        pitch_mm = max(settings.contact_pitch_mm, PITCH_PER_NODE_DISTANCE * body.node_distance_mm)
        patches = contact_patches(body, frame, pitch_mm)
        weights = patches.weights
    places = np.flatnonzero(counting_places(body, frame, settings))
    condensed = CondensedBody(
        body.solve,
        lambda displacement_mm: body.strains(displacement_mm, places),
        head_loads(body, frame, settings),
        weights,
        tolerance,
    )
    neighbours = neighbourhoods(body.places_mm[places], settings.averaging_radius_mm)
    return LoadedFemur(body, frame, settings, condensed, patches, places, neighbours)


def find_failures(femur: LoadedFemur, cases: Sequence[LoadCase], tell: Tell) -> tuple[FailedCase, ...]:
    """Find the failure load of every case, in the order given.

    Parameters
    ----------
    femur
        The condensed body.
    cases
        Directions.
    tell
        Called with the fraction of the cases that is finished.

    Raises
    ------
    ContactNotFound, NotConverged, TrochanterNotFound, UnsupportedModel
        A case has no solution.
    """
    loaded = [_loaded(femur, case) for case in cases]
    failed: dict[int, FailedCase] = {}
    grounds = [one.ground for one in loaded if one.ground is not None]
    femur.condensed.add(_pairs([(ground, ground.gap_mm <= FIRST_GAP_MM) for ground in grounds]))
    for _ in range(MAX_ROUNDS):
        penetrating = []
        for number, one in enumerate(loaded):
            if number not in failed:
                result, missing = _fail(femur, one)
                if one.ground is not None and missing.any():
                    penetrating.append((one.ground, missing))
                else:
                    failed[number] = result
        tell(len(failed) / len(loaded))
        if not penetrating:
            return tuple(failed[number] for number in range(len(loaded)))
        femur.condensed.add(_pairs(penetrating))
    raise ContactNotFound(f"After {MAX_ROUNDS} rounds, parts of the trochanter still penetrate the ground.")


def _pairs(wanted: Sequence[tuple[Ground, Bools]]) -> Iterator[tuple[int, Doubles]]:
    """Yield every patch with the normal of the ground that it is wanted for."""
    for ground, patches in wanted:
        for patch in np.flatnonzero(patches):
            yield int(patch), ground.normal


def _loaded(femur: LoadedFemur, case: LoadCase) -> LoadedCase:
    direction = femur.frame.vector(*case.components())
    counts = np.ones(len(femur.places), dtype=bool)
    ground = None
    if case.kind == "fall" and femur.patches is not None:
        ground = ground_of(femur.patches, femur.frame, direction, femur.settings.knee_distance_mm)
        counts = away_from_ground(femur.body, femur.frame, direction, femur.settings)[femur.places]
    return LoadedCase(case, direction, ground, counts)


def _fail(femur: LoadedFemur, one: LoadedCase) -> tuple[FailedCase, Bools]:
    """Find one case's failure load with the columns at hand; return also the patches that lack a column."""
    load_n = FIRST_LOAD_N
    tried: list[tuple[float, float]] = []
    for step in range(1, MAX_LOAD_STEPS + 1):
        factors, contact, missing = state_under(femur, one, load_n)
        failure = first_failure(
            femur.condensed.strain_under(factors), one.counts, femur.neighbours, femur.settings.limits
        )
        if not failure.fraction > 0:
            raise NotConverged(step, 1.0, LOAD_TOLERANCE)
        if abs(failure.fraction - 1) <= LOAD_TOLERANCE:
            return FailedCase(one, load_n, failure, contact, factors, step), missing
        tried.append((load_n, failure.fraction))
        load_n = _next_load(tried)
    raise NotConverged(MAX_LOAD_STEPS, abs(tried[-1][1] - 1), LOAD_TOLERANCE)


def _next_load(tried: list[tuple[float, float]]) -> float:
    """Return the force at which the line through the last two (force, fraction) reaches 1; the first comes from 0."""
    (load, fraction), (earlier, smaller) = tried[-1], tried[-2] if len(tried) > 1 else (0.0, 0.0)
    slope = (fraction - smaller) / (load - earlier) if load != earlier else 0.0
    proportional = fraction / load
    return load + (1 - fraction) / (slope if slope > proportional / 2 else proportional)


def state_under(femur: LoadedFemur, one: LoadedCase, load_n: float) -> tuple[Doubles, Contact | None, Bools]:
    """Return the columns' factors under a hip force, the contact, and the patches that penetrate without a column."""
    condensed, ground = femur.condensed, one.ground
    load = load_n * one.direction
    force = np.zeros(condensed.patch_count)
    if ground is None:
        return condensed.factors(load, force, one.direction), None, np.zeros(len(force), dtype=bool)
    spanned = condensed.spans(ground.normal)
    known = np.flatnonzero(spanned)
    compliance = condensed.compliance(ground.normal)[:, known]
    without = ground.gap_mm + condensed.load_displacement(load, ground.normal)
    square = compliance[known]
    found = solve_contact((square + square.T) / 2, without[known], ground.turn_mm[known], load_n * ground.load_turn_mm)
    force[known] = found.force_n
    gap = without + compliance @ found.force_n + ground.turn_mm @ found.motion
    gap[known] = found.gap_mm
    contact = Contact(force, gap, found.motion, found.steps)
    return condensed.factors(load, force, ground.normal), contact, gap < 0


@dataclass(frozen=True, slots=True)
class CheckedCase:
    """The whole model under the forces of one case at failure.

    Attributes
    ----------
    displacement_mm : (3, nodes) array
        Components (x, y, z).
    residual
        True relative residual.
    reaction_balance
        Norm of the sum of all forces, reactions included, over the hip force.
    iterations
        Of the linear solver.
    risk : (elements,) array
        Largest principal strain over its limit at the elements' centres.
    """

    displacement_mm: Doubles
    residual: float
    reaction_balance: float
    iterations: int
    risk: Doubles


def weakest_cases(failed: Sequence[FailedCase]) -> tuple[FailedCase, ...]:
    """Return the weakest case of each kind."""
    kinds = dict.fromkeys(one.loaded.case.kind for one in failed)
    return tuple(min((f for f in failed if f.loaded.case.kind == kind), key=lambda f: f.load_n) for kind in kinds)


def check_case(femur: LoadedFemur, one: FailedCase) -> CheckedCase:
    """Solve the whole model under the forces of a case at failure, and hold its strains against the limit.

    Raises
    ------
    NotConverged
        The whole model does not fail at this load.
    NotInBalance
        Its forces do not add up to nothing.
    """
    force = femur.condensed.force_under(one.factors)
    answer = femur.body.solve(force[None], CHECK_TOLERANCE)
    displacement = answer.displacement_mm[0]
    limits = femur.settings.limits
    strains = femur.body.strains(displacement, femur.places)
    confirmed = first_failure(strains, one.loaded.counts, femur.neighbours, limits)
    if abs(confirmed.fraction - 1) > CHECK_AGREEMENT:
        raise NotConverged(answer.iterations, abs(confirmed.fraction - 1), CHECK_AGREEMENT)
    imbalance = force.sum(axis=1) + femur.body.reactions(displacement, force)
    return CheckedCase(
        displacement,
        float(answer.residual[0]),
        balanced(float(np.linalg.norm(imbalance)) / one.load_n),
        answer.iterations,
        risk(*principal_strains(femur.body.element_strains(displacement)), limits.tension, limits.compression),
    )

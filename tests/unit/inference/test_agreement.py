"""Statistics of agreement against published examples, closed forms and their own definitions."""

import numpy as np
import pytest

from inference.agreement import agree, decide, intraclass, roc, wilson
from inference.metrics import dice, iou, surface_agreement, surface_distance_mm, voxel_auc

SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)
"""Six targets, four judges: table 2 of [ShroutFleiss1979]."""


def anova_icc(table: np.ndarray) -> float:  # type: ignore[type-arg]
    """ICC(2,1) written out from the sums of squares, for any number of judges."""
    n, k = table.shape
    total = ((table - table.mean()) ** 2).sum()
    rows = k * ((table.mean(axis=1) - table.mean()) ** 2).sum()
    columns = n * ((table.mean(axis=0) - table.mean()) ** 2).sum()
    msr, msc, mse = rows / (n - 1), columns / (k - 1), (total - rows - columns) / ((n - 1) * (k - 1))
    return float((msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n))


def test_the_reference_computation_gives_the_published_icc() -> None:
    assert anova_icc(SHROUT_FLEISS) == pytest.approx(0.29, abs=0.005)


def test_icc_of_four_judges_has_the_published_value_and_interval() -> None:
    # 0.29 [ShroutFleiss1979]; 0.019 to 0.76 is what the package psych of R prints for these data [m].
    found = intraclass(SHROUT_FLEISS)
    assert (found.value, found.low, found.high) == pytest.approx((0.29, 0.019, 0.76), abs=0.005)


def test_icc_of_two_methods_is_that_of_the_reference_computation() -> None:
    pair = SHROUT_FLEISS[:, [0, 3]]
    found = agree(pair[:, 0], pair[:, 1]).icc
    assert found.value == pytest.approx(anova_icc(pair))
    assert found.low < found.value < found.high


def test_icc_interval_holds_the_truth_in_95_of_100_samples() -> None:
    rng, truth, held = np.random.default_rng(5), 9.0 / (9.0 + 1.0), 0
    for _ in range(400):
        case = rng.normal(0, 3, 30)
        found = agree(case + rng.normal(0, 1, 30), case + rng.normal(0, 1, 30)).icc
        held += found.low <= truth <= found.high
    # 380 expected; three standard deviations of a binomial count are 13.
    assert 365 <= held <= 395


def test_bland_altman_of_a_constant_shift() -> None:
    reference = np.array([50.0, 90.0, 130.0, 170.0])
    found = agree(reference + 2.0, reference)
    assert found.bias.value == pytest.approx(2.0)
    assert found.limits == pytest.approx((2.0, 2.0))
    assert found.r2 == pytest.approx(1.0)
    assert found.icc.value < 1.0
    assert found.spearman.value == pytest.approx(1.0)


def test_equal_values_agree_perfectly_whatever_their_rounding() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e6):
        for _ in range(50):
            values = scale * rng.normal(100, 30, 10).round(2)
            found = agree(values, values)
            assert (found.icc.value, found.icc.low, found.icc.high) == pytest.approx((1.0, 1.0, 1.0))
            assert found.bias.value == 0.0


WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI_WRIGHT = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
"""Peak expiratory flow by two meters, l/min: table 1 of [BlandAltman1986], first measurements."""


def test_bland_altman_gives_the_figures_of_their_own_example() -> None:
    found = agree(WRIGHT, MINI_WRIGHT)
    sd = (found.limits[1] - found.limits[0]) / (2 * 1.96)
    # -2.1 (-22.0 to 17.8), standard deviation 38.8, r = 0.94; the paper's limits are at 2 standard deviations, the
    # interval of the lower one -114.3 to -45.1.
    assert (found.bias.value, found.bias.low, found.bias.high) == pytest.approx((-2.1, -22.0, 17.8), abs=0.06)
    assert sd == pytest.approx(38.8, abs=0.05)
    assert 2 * found.limits_error == pytest.approx(114.3 - 45.1, abs=0.3)
    assert found.pearson.value == pytest.approx(0.94, abs=0.005)


def test_limits_of_agreement_are_1_96_standard_deviations() -> None:
    rng = np.random.default_rng(0)
    reference = rng.uniform(50, 200, 500)
    found = agree(reference + rng.normal(1.0, 5.0, 500), reference)
    assert found.limits[1] - found.limits[0] == pytest.approx(2 * 1.96 * 5.0, rel=0.08)
    assert found.bias.low < 1.0 < found.bias.high


def test_relative_difference_is_the_mean_of_the_absolute_ones() -> None:
    assert agree([110.0, 95.0, 300.0], [100.0, 100.0, 300.0]).relative_difference_percent == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("measured", "reference", "sentence"),
    [
        ([1.0, 2.0], [1.0, 2.0], "at least 3"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], "expected pairs"),
        ([1.0, np.nan, 3.0], [1.0, 2.0, 3.0], "not finite"),
        ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], "the same"),
    ],
)
def test_values_that_cannot_be_compared_are_refused(
    measured: list[float], reference: list[float], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        agree(measured, reference)


def test_wilson_interval_of_a_textbook_case() -> None:
    # 81 of 263: 0.2553 to 0.3662 [Newcombe 1998, method 3], from memory of the literature.
    found = wilson(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-4)


def test_a_proportion_without_trials_says_nothing() -> None:
    found = wilson(0, 0)
    assert np.isnan(found.value)
    assert (found.low, found.high) == (0.0, 1.0)


def test_a_decision_is_counted() -> None:
    found = decide([True, True, False, False, True], [True, False, True, False, True])
    assert (found.true_positive, found.false_positive, found.false_negative, found.true_negative) == (2, 1, 1, 1)
    assert found.sensitivity.value == pytest.approx(2 / 3)
    assert found.specificity.value == pytest.approx(1 / 2)
    assert found.ppv.value == pytest.approx(2 / 3)
    assert found.npv.value == pytest.approx(1 / 2)


def test_area_under_the_curve_is_the_chance_that_a_positive_scores_higher() -> None:
    found = roc([0.9, 0.8, 0.3, 0.5, 0.1], [True, True, True, False, False])
    assert found.auc.value == pytest.approx(5 / 6)
    assert np.trapezoid(found.true_positive_rate, found.false_positive_rate) == pytest.approx(5 / 6)
    assert (found.false_positive_rate[0], found.true_positive_rate[-1]) == (0.0, 1.0)


def test_delong_interval_holds_the_truth_in_95_of_100_samples() -> None:
    rng, held = np.random.default_rng(2), 0
    truth = 0.7602  # Phi(1 / sqrt 2), the area of two unit normals one apart.
    labels = np.arange(120) < 50
    for _ in range(400):
        found = roc(rng.normal(0, 1, 120) + labels, labels).auc
        held += found.low <= truth <= found.high
    assert 363 <= held <= 395


def test_a_curve_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="positive and negative"):
        roc([0.1, 0.2], [True, True])


def test_iou_and_dice_of_two_overlapping_boxes() -> None:
    one, other = np.zeros((4, 4, 4), dtype=bool), np.zeros((4, 4, 4), dtype=bool)
    one[:2], other[1:3] = True, True
    assert dice(one, other) == pytest.approx(0.5)
    assert iou(one, other) == pytest.approx(1 / 3)
    empty = np.zeros_like(one)
    assert iou(empty, empty) == 1.0


def test_surface_distance_of_nested_plates_is_the_step_between_them() -> None:
    one, other = np.zeros((20, 40, 40), dtype=bool), np.zeros((20, 40, 40), dtype=bool)
    one[5:10, 2:38, 2:38], other[5:12, 2:38, 2:38] = True, True
    found = surface_distance_mm(one, other, (1.5, 1.0, 1.0))
    assert 0.5 < found < 1.5  # one of the two faces moved by 3 mm, the other did not
    assert surface_distance_mm(one, one, (1.5, 1.0, 1.0)) == 0.0
    assert surface_distance_mm(one, np.zeros_like(one), (1.0, 1.0, 1.0)) == float("inf")


def test_spearman_interval_holds_the_truth_in_95_of_100_samples() -> None:
    rng, held = np.random.default_rng(8), 0
    r = 0.8
    truth = 6 / np.pi * np.arcsin(r / 2)  # Spearman's correlation of a bivariate normal distribution.
    for _ in range(400):
        x, e = rng.normal(size=(2, 40))
        found = agree(r * x + np.sqrt(1 - r**2) * e, x).spearman
        held += found.low <= truth <= found.high
    # 380 expected; three standard deviations of a binomial count are 13.
    assert 365 <= held <= 395


def test_the_best_cut_off_has_the_largest_sum_of_sensitivity_and_specificity() -> None:
    score, truth = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]), np.array([1, 1, 0, 1, 0, 0], dtype=bool)
    found = roc(score, truth)
    sums = [(score >= t)[truth].mean() + (score < t)[~truth].mean() for t in found.thresholds]
    assert found.best == int(np.argmax(sums))
    assert found.thresholds[found.best] == 4.0


def test_a_curve_of_a_hundred_thousand_cases_needs_no_table_of_all_pairs() -> None:
    rng = np.random.default_rng(9)
    truth = np.arange(100_000) % 2 == 0
    found = roc(rng.normal(size=truth.size) + truth, truth)
    assert found.auc.value == pytest.approx(0.7602, abs=3 * 0.0015)


def test_hausdorff_distances_of_parallel_plates() -> None:
    one, other = np.zeros((30, 20, 20), dtype=bool), np.zeros((30, 20, 20), dtype=bool)
    one[5:10, 2:18, 2:18], other[5:10, 2:18, 2:18] = True, True
    other[25, 10, 10] = True  # one voxel far away
    found = surface_agreement(one, other, (2.0, 1.0, 1.0))
    assert found.hd_mm == pytest.approx(32.0)
    assert found.hd95_mm == 0.0
    assert found.mean_mm < 0.1


def test_the_area_of_a_mask_is_that_of_the_curve_of_its_voxels() -> None:
    rng = np.random.default_rng(0)
    reference = rng.random((6, 7, 8)) < 0.3
    mask = reference ^ (rng.random(reference.shape) < 0.2)
    expected = roc(mask.ravel().astype(float), reference.ravel()).auc.value
    assert voxel_auc(mask, reference) == pytest.approx(expected)
    assert np.isnan(voxel_auc(mask, np.zeros_like(mask)))

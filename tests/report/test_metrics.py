"""Scores against closed forms and torchmetrics."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import t as student_t
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_calibration_error

from pcam_agreement.report import metrics

random = np.random.default_rng(0)
LABELS = random.integers(0, 2, 400)
LOGITS = random.normal(size=400) * 2 + LABELS
SLIDES = np.arange(400) // 20


def test_auroc_and_auprc_agree_with_torchmetrics():
    found = metrics.scores(LOGITS, LABELS, 0.0, 15)
    probability, labels = torch.sigmoid(torch.from_numpy(LOGITS)), torch.from_numpy(LABELS)
    assert found["auroc"] == pytest.approx(binary_auroc(probability, labels).item())
    assert found["auprc"] == pytest.approx(binary_average_precision(probability, labels).item(), abs=1e-3)


def test_proper_scores_agree_with_torch():
    found = metrics.scores(LOGITS, LABELS, 0.0, 15)
    logits, labels = torch.from_numpy(LOGITS), torch.from_numpy(LABELS).double()
    nll = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert found["nll"] == pytest.approx(nll.item())
    assert found["brier"] == pytest.approx(torch.nn.functional.mse_loss(torch.sigmoid(logits), labels).item())


def test_calibration_error_has_its_closed_forms():
    assert metrics.calibration_error(np.full(10, 0.75), np.array([1, 1, 1, 0] * 2 + [1, 0]), 10) == pytest.approx(0.05)
    assert metrics.calibration_error(np.array([0.0, 1.0]), np.array([1, 0]), 15) == 1
    # torchmetrics bins the probability of the called class; with all called positive the two agree
    probability = random.uniform(0.5, 1, 500)
    labels = (random.random(500) < probability).astype(int)
    expected = binary_calibration_error(torch.from_numpy(probability), torch.from_numpy(labels), n_bins=20).item()
    assert metrics.calibration_error(probability, labels, 20) == pytest.approx(expected, abs=1e-6)


def test_the_interval_of_an_auroc_is_delongs_where_every_patch_is_a_slide():
    logits, labels = LOGITS[:90], LABELS[:90]  # each is left out by itself: there are no more than 100
    tumour, normal = logits[labels == 1], logits[labels == 0]
    above = tumour[:, None] > normal  # DeLong, DeLong and Clarke-Pearson 1988
    variance = above.mean(1).var(ddof=1) / len(tumour) + above.mean(0).var(ddof=1) / len(normal)
    low, high = metrics.auroc_interval(logits, labels, np.arange(90))
    assert (high - low) / 2 == pytest.approx(student_t.ppf(0.975, 89) * variance**0.5, rel=0.03)
    assert (high + low) / 2 == pytest.approx(metrics.auroc(logits, labels))


def test_the_interval_of_an_auroc_counts_slides_and_not_patches():
    logits, labels, slides = (np.repeat(values[:40], 9) for values in (LOGITS, LABELS, np.arange(40)))
    once = metrics.auroc_interval(LOGITS[:40], LABELS[:40], np.arange(40))
    assert metrics.auroc_interval(logits, labels, slides) == pytest.approx(once)


@pytest.mark.parametrize("slides", [np.zeros(6), np.array([0, 0, 0, 1, 1, 1])])
def test_an_auroc_of_one_slide_or_with_a_class_on_one_has_no_interval(slides):
    interval = metrics.auroc_interval(np.array([0.1, 0.2, 0.5, 0.3, 0.8, 0.9]), np.array([0, 0, 0, 1, 1, 1]), slides)
    assert np.isnan(interval).all()


def test_the_threshold_separates_what_can_be_separated():
    logits, labels = np.array([-3.0, 1.0, 2.0, 5.0]), np.array([0, 0, 1, 1])
    threshold = metrics.best_threshold(logits, labels)
    found = metrics.scores(logits, labels, threshold, 15)
    assert (found["sensitivity"], found["specificity"], found["accuracy"]) == (1, 1, 0.75)
    assert 1 < threshold <= 2


def test_the_temperature_undoes_a_known_scale_and_is_where_nll_is_least():
    own = np.random.default_rng(1)
    true = own.normal(size=50_000) * 2
    labels = (own.random(50_000) < 1 / (1 + np.exp(-true))).astype(int)
    for scale in (0.25, 1.0, 3.0):
        temperature = metrics.best_temperature(scale * true, labels)
        assert temperature == pytest.approx(scale, rel=0.03)
        nll = [metrics.scores(scale * true / (t * temperature), labels, 0.0, 15)["nll"] for t in (0.99, 1, 1.01)]
        assert min(nll) == nll[1]


def test_a_temperature_adds_calibrated_scores_and_changes_no_other():
    arrays = {f"{split}_logits": 3 * LOGITS for split in ("valid", "test")}
    arrays |= {f"{split}_labels": LABELS for split in ("valid", "test")}
    plain, calibrated = (metrics.network_scores("a", arrays, SLIDES, 15, temperature) for temperature in (False, True))
    temperature = metrics.best_temperature(3 * LOGITS, LABELS)
    expected = metrics.scores(3 * LOGITS / temperature, LABELS, 0.0, 15)
    added = {f"calibrated_{name}": expected[name] for name in ("nll", "brier", "ece")}
    assert calibrated == {**plain, **added, "temperature": temperature}


def test_the_temperature_is_the_one_that_scipy_finds():
    signed = np.where(LABELS == 1, -3 * LOGITS, 3 * LOGITS)
    found = minimize_scalar(lambda log: np.logaddexp(0, signed * np.exp(-log)).mean(), bounds=np.log((0.01, 100)))
    assert metrics.best_temperature(3 * LOGITS, LABELS) == pytest.approx(np.exp(found.x), rel=1e-4)


@pytest.mark.parametrize("decimals", [0, 1, 9])  # with many, some and no ties
def test_curves_and_areas_agree_with_scikit_learn(decimals):
    logits = LOGITS.round(decimals)
    assert metrics.auroc(logits, LABELS) == pytest.approx(roc_auc_score(LABELS, logits))
    assert metrics.average_precision(logits, LABELS) == pytest.approx(average_precision_score(LABELS, logits))
    for ours, theirs in zip(
        metrics.roc_curve(logits, LABELS), roc_curve(LABELS, logits, drop_intermediate=False), strict=True
    ):
        np.testing.assert_allclose(ours, theirs)


def test_a_network_with_logits_that_are_not_finite_is_named():
    arrays = {
        f"{split}_{kind}": values
        for split in ("valid", "test")
        for kind, values in (("logits", LOGITS), ("labels", LABELS))
    }
    for name in ("valid_logits", "test_logits"):
        broken = np.where(np.arange(400) == 3, np.inf, LOGITS)
        with pytest.raises(ValueError, match=r"resnet34: .* logits .*not finite"):
            metrics.network_scores("resnet34", {**arrays, name: broken}, SLIDES, 15, False)


def test_a_class_that_is_absent_and_a_logit_that_is_not_finite_are_errors():
    with pytest.raises(ValueError, match="both classes"):
        metrics.scores(LOGITS, np.ones(400, int), 0.0, 15)
    with pytest.raises(ValueError, match="1 of 400 logits are not finite"):
        metrics.scores(np.where(np.arange(400) == 3, np.nan, LOGITS), LABELS, 0.0, 15)


def test_the_roc_curve_runs_from_corner_to_corner():
    false_positives, true_positives = metrics.roc(LOGITS, LABELS)
    assert (false_positives[0], false_positives[-1], true_positives[-1]) == (0, 1, 1)
    assert (np.diff(true_positives) >= 0).all()

"""Scores against closed forms and torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_calibration_error

from pcam_agreement import scores

random = np.random.default_rng(0)
LABELS = random.integers(0, 2, 400)
LOGITS = random.normal(size=400) * 2 + LABELS


def test_auroc_and_auprc_agree_with_torchmetrics():
    found = scores.scores(LOGITS, LABELS, 0.0, 15)
    probability, labels = torch.sigmoid(torch.from_numpy(LOGITS)), torch.from_numpy(LABELS)
    assert found["auroc"] == pytest.approx(binary_auroc(probability, labels).item())
    assert found["auprc"] == pytest.approx(binary_average_precision(probability, labels).item(), abs=1e-3)


def test_proper_scores_agree_with_torch():
    found = scores.scores(LOGITS, LABELS, 0.0, 15)
    logits, labels = torch.from_numpy(LOGITS), torch.from_numpy(LABELS).double()
    nll = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert found["nll"] == pytest.approx(nll.item())
    assert found["brier"] == pytest.approx(torch.nn.functional.mse_loss(torch.sigmoid(logits), labels).item())


def test_calibration_error_has_its_closed_forms():
    assert scores.calibration_error(np.full(10, 0.75), np.array([1, 1, 1, 0] * 2 + [1, 0]), 10) == pytest.approx(0.05)
    assert scores.calibration_error(np.array([0.0, 1.0]), np.array([1, 0]), 15) == 1
    # torchmetrics bins the probability of the called class; with all called positive the two agree
    probability = random.uniform(0.5, 1, 500)
    labels = (random.random(500) < probability).astype(int)
    expected = binary_calibration_error(torch.from_numpy(probability), torch.from_numpy(labels), n_bins=20).item()
    assert scores.calibration_error(probability, labels, 20) == pytest.approx(expected, abs=1e-6)


def test_the_threshold_separates_what_can_be_separated():
    logits, labels = np.array([-3.0, 1.0, 2.0, 5.0]), np.array([0, 0, 1, 1])
    threshold = scores.best_threshold(logits, labels)
    found = scores.scores(logits, labels, threshold, 15)
    assert (found["sensitivity"], found["specificity"], found["accuracy"]) == (1, 1, 0.75)
    assert 1 < threshold <= 2


def test_a_class_that_is_absent_and_a_logit_that_is_not_finite_are_errors():
    with pytest.raises(ValueError, match="both classes"):
        scores.scores(LOGITS, np.ones(400, int), 0.0, 15)
    with pytest.raises(ValueError, match="1 of 400 logits are not finite"):
        scores.scores(np.where(np.arange(400) == 3, np.nan, LOGITS), LABELS, 0.0, 15)


def test_the_roc_curve_runs_from_corner_to_corner():
    false_positives, true_positives = scores.roc(LOGITS, LABELS)
    assert (false_positives[0], false_positives[-1], true_positives[-1]) == (0, 1, 1)
    assert (np.diff(true_positives) >= 0).all()

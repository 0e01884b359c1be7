"""Scores against closed forms and torchmetrics."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_calibration_error

from pcam_agreement import networks, scores, store
from pcam_agreement.stages import evaluate

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


def test_the_temperature_undoes_a_known_scale_and_is_where_nll_is_least():
    own = np.random.default_rng(1)
    true = own.normal(size=50_000) * 2
    labels = (own.random(50_000) < 1 / (1 + np.exp(-true))).astype(int)
    for scale in (0.25, 1.0, 3.0):
        temperature = scores.best_temperature(scale * true, labels)
        assert temperature == pytest.approx(scale, rel=0.03)
        nll = [scores.scores(scale * true / (t * temperature), labels, 0.0, 15)["nll"] for t in (0.99, 1, 1.01)]
        assert min(nll) == nll[1]


def test_evaluating_with_a_temperature_adds_calibrated_scores_and_changes_no_other(raw, dataset, resnet, tmp_path):
    networks.save(resnet, tmp_path / "a.safetensors")
    found = {}
    for temperature in (False, True):
        raw["evaluate"]["temperature"] = temperature
        YAML().dump(raw, tmp_path / "params.yaml")
        paths = {"predictions": tmp_path / "a.h5", "scores": tmp_path / "a.json"}
        evaluate.main(
            Namespace(params=tmp_path / "params.yaml", patches=dataset, checkpoint=tmp_path / "a.safetensors", **paths)
        )
        found[temperature] = store.read_json(tmp_path / "a.json")
    arrays = store.read_arrays(tmp_path / "a.h5")
    temperature = scores.best_temperature(arrays["valid_logits"], arrays["valid_labels"])
    expected = scores.scores(arrays["test_logits"] / temperature, arrays["test_labels"], 0.0, 15)
    added = {f"calibrated_{name}": expected[name] for name in ("nll", "brier", "ece")}
    assert found[True] == {**found[False], **added, "temperature": temperature}


def test_a_class_that_is_absent_and_a_logit_that_is_not_finite_are_errors():
    with pytest.raises(ValueError, match="both classes"):
        scores.scores(LOGITS, np.ones(400, int), 0.0, 15)
    with pytest.raises(ValueError, match="1 of 400 logits are not finite"):
        scores.scores(np.where(np.arange(400) == 3, np.nan, LOGITS), LABELS, 0.0, 15)


def test_the_roc_curve_runs_from_corner_to_corner():
    false_positives, true_positives = scores.roc(LOGITS, LABELS)
    assert (false_positives[0], false_positives[-1], true_positives[-1]) == (0, 1, 1)
    assert (np.diff(true_positives) >= 0).all()

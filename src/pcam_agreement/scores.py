"""Logits and labels of a whole split -> how good, how calibrated; thresholds are chosen on another split."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve


def best_threshold(logits: np.ndarray, labels: np.ndarray) -> float:
    """The logit at which sensitivity + specificity is largest (Youden's J); the lowest such one."""
    false_positives, true_positives, thresholds = roc_curve(labels, logits, drop_intermediate=False)
    best = np.flatnonzero((j := true_positives - false_positives) == j.max())[-1]
    return float(np.clip(thresholds[best], -1e9, 1e9))


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """What to divide logits by for the least NLL, between 0.01 and 100: Guo et al. 2017 (arXiv 1706.04599)."""
    signed = np.where(labels == 1, -logits, logits).astype(np.float64)
    found = minimize_scalar(lambda log: np.logaddexp(0, signed * np.exp(-log)).mean(), bounds=np.log((0.01, 100)))
    return float(np.exp(found.x))


def scores(logits: np.ndarray, labels: np.ndarray, threshold: float, bins: int) -> dict[str, float]:
    """All numbers of one network on one split.

    logits: [n], all of the split at once (never a mean over batches); labels: [n] of 0 and 1, both present;
    threshold: a logit chosen on another split, for sensitivity and specificity; accuracy and balanced accuracy are
    at probability 0.5. NLL in nats; ECE with this many bins of equal width.

    Raises ValueError where a logit is not finite or a class is absent.
    """
    if not np.isfinite(logits).all():
        raise ValueError(f"{(~np.isfinite(logits)).sum()} of {len(logits)} logits are not finite; lower train.lr.")
    if len(np.unique(labels)) != 2:
        raise ValueError("expected patches of both classes, found one; AUROC is not defined.")
    logits, labels = logits.astype(np.float64), labels.astype(int)
    probability, called = expit(logits), logits > 0
    positive, negative = labels == 1, labels == 0
    above = logits >= threshold
    return {
        "accuracy": float((called == positive).mean()),
        "balanced_accuracy": float((called[positive].mean() + (~called[negative]).mean()) / 2),
        "auroc": float(roc_auc_score(labels, logits)),
        "auprc": float(average_precision_score(labels, logits)),
        "nll": float(np.logaddexp(0, np.where(positive, -logits, logits)).mean()),
        "brier": float(((probability - labels) ** 2).mean()),
        "ece": calibration_error(probability, labels, bins),
        "threshold": threshold,
        "sensitivity": float(above[positive].mean()),
        "specificity": float((~above[negative]).mean()),
    }


def calibration_error(probability: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Expected calibration error of the probability of tumour: mean |share of tumour - mean probability| of bins.

    Guo et al. 2017 (arXiv 1706.04599), for the positive class, bins of equal width.
    """
    which = np.minimum((probability * bins).astype(int), bins - 1)
    gap = np.bincount(which, probability - labels, bins)
    return float(np.abs(gap).sum() / len(labels))


def roc(logits: np.ndarray, labels: np.ndarray, points: int = 201) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates at evenly spaced false positive rates, for a plot."""
    false_positives, true_positives, _ = roc_curve(labels, logits)
    grid = np.linspace(0, 1, points)
    return grid, np.interp(grid, false_positives, true_positives)

"""Logits and labels of a whole split -> discrimination and calibration; thresholds are chosen on another split.

In numpy alone: a report starts in a second, and scikit-learn would take two (the tests compare with it).
"""

import numpy as np

from pcam_agreement.agreement.intervals import jackknife_interval
from pcam_agreement.agreement.overlaps import slide_groups

GOLDEN = (np.sqrt(5) - 1) / 2


def network_scores(
    name: str, arrays: dict[str, np.ndarray], slides: np.ndarray, bins: int, temperature: bool
) -> dict[str, float]:
    """All scores of one network on test, from its logits on valid and test (see training.fit.train).

    slides: of the test patches, for the 95 % interval of the AUROC. With a temperature, also NLL, Brier score and ECE
    of the probabilities calibrated by it; ranks and predicted classes stay as they are.

    Raises ValueError as `scores` does, with the network's name.
    """
    valid, test = (arrays[f"{split}_logits"] for split in ("valid", "test"))
    valid_labels, labels = (arrays[f"{split}_labels"] for split in ("valid", "test"))
    if not np.isfinite(valid).all():
        raise ValueError(f"{name}: some logits on valid are not finite; lower its lr and train it again.")
    threshold = best_threshold(valid, valid_labels)
    try:
        result = scores(test, labels, threshold, bins)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    result["auroc_low"], result["auroc_high"] = auroc_interval(test, labels, slides)
    if temperature:
        factor = best_temperature(valid, valid_labels)
        calibrated = scores(test / factor, labels, threshold / factor, bins)
        result |= {f"calibrated_{name}": calibrated[name] for name in ("nll", "brier", "ece")}
        result["temperature"] = factor
    return result


def best_threshold(logits: np.ndarray, labels: np.ndarray) -> float:
    """The logit at which sensitivity + specificity is largest (Youden's J); the lowest such one."""
    false_positive_rate, true_positive_rate, thresholds = roc_curve(logits, labels)
    best = np.flatnonzero((j := true_positive_rate - false_positive_rate) == j.max())[-1]
    return float(np.clip(thresholds[best], -1e9, 1e9))


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The divisor of logits with the least NLL, between 0.01 and 100: Guo et al. 2017 (arXiv 1706.04599).

    NLL has one minimum over the inverse of the temperature; golden-section search over the logarithm finds it.
    """
    signed = np.where(labels == 1, -logits, logits).astype(np.float64)

    def nll(log: float) -> float:
        return float(np.logaddexp(0, signed * np.exp(-log)).mean())

    low, high = np.log(0.01), np.log(100.0)
    while high - low > 1e-7:
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        low, high = (low, right) if nll(left) <= nll(right) else (left, high)
    return float(np.exp((low + high) / 2))


def scores(logits: np.ndarray, labels: np.ndarray, threshold: float, bins: int) -> dict[str, float]:
    """All scores of one network on one split.

    logits: [n], all of the split at once (never a mean over batches); labels: [n] of 0 and 1, both present;
    threshold: a logit chosen on another split, for sensitivity and specificity; accuracy and balanced accuracy are
    at probability 0.5. NLL in nats; ECE with this many bins of equal width.

    Raises ValueError where a logit is not finite or a class is absent.
    """
    if not np.isfinite(logits).all():
        raise ValueError(f"{(~np.isfinite(logits)).sum()} of {len(logits)} logits are not finite; lower train.lr.")
    if len(np.unique(labels)) != 2:
        raise ValueError("expected patches of both classes, found a single one; AUROC is not defined.")
    logits, labels = logits.astype(np.float64), labels.astype(int)
    probability, predicted = np.exp(-np.logaddexp(0, -logits)), logits > 0
    positive, negative = labels == 1, labels == 0
    above = logits >= threshold
    return {
        "accuracy": float((predicted == positive).mean()),
        "balanced_accuracy": float((predicted[positive].mean() + (~predicted[negative]).mean()) / 2),
        "auroc": auroc(logits, labels),
        "auprc": average_precision(logits, labels),
        "nll": float(np.logaddexp(0, np.where(positive, -logits, logits)).mean()),
        "brier": float(((probability - labels) ** 2).mean()),
        "ece": calibration_error(probability, labels, bins),
        "threshold": threshold,
        "sensitivity": float(above[positive].mean()),
        "specificity": float((~above[negative]).mean()),
    }


def auroc(logits: np.ndarray, labels: np.ndarray) -> float:
    """The probability that a tumour patch has a higher logit than a normal one, ties as one half.

    >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    false_positive_rate, true_positive_rate, _ = roc_curve(logits, labels)
    return float(np.trapezoid(true_positive_rate, false_positive_rate))


def auroc_interval(logits: np.ndarray, labels: np.ndarray, slides: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the AUROC for patches of other slides, by the delete-one jackknife over slides.

    More than 100 slides are left out in groups (`slide_groups`). NaN where there are fewer than two slides, and where
    one has all patches of a class.
    """
    groups, value = slide_groups(slides), np.array([auroc(logits, labels)])
    kept = [groups != group for group in np.unique(groups)]
    if any(len(np.unique(labels[keep])) < 2 for keep in kept):
        return float("nan"), float("nan")
    (low,), (high,) = jackknife_interval(value, np.array([[auroc(logits[keep], labels[keep])] for keep in kept]))
    return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))


def average_precision(logits: np.ndarray, labels: np.ndarray) -> float:
    """Precision at each threshold, weighted by the recall that it adds: sum of (R_n - R_(n - 1)) P_n."""
    true_positives, predicted = _counts(logits, labels)[:2]
    recall = true_positives / true_positives[-1]
    return float((np.diff(recall, prepend=0) * true_positives / predicted).sum())


def calibration_error(probability: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Expected calibration error of the probability of tumour: mean |share of tumour - mean probability| of bins.

    Guo et al. 2017 (arXiv 1706.04599), for the positive class, bins of equal width.
    """
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gap = np.bincount(index, probability - labels, bins)
    return float(np.abs(gap).sum() / len(labels))


def roc_curve(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False and true positive rates, from 0 to 1, and the logits from which on a patch counts as positive."""
    true_positives, predicted, thresholds = _counts(logits, labels)
    false_positives = predicted - true_positives
    false_positive_rate, true_positive_rate = (
        np.append(0, counts / counts[-1]) for counts in (false_positives, true_positives)
    )
    return false_positive_rate, true_positive_rate, np.append(np.inf, thresholds)


def roc(logits: np.ndarray, labels: np.ndarray, points: int = 201) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates at evenly spaced false positive rates, for a plot."""
    false_positive_rate, true_positive_rate, _ = roc_curve(logits, labels)
    grid = np.linspace(0, 1, points)
    return grid, np.interp(grid, false_positive_rate, true_positive_rate)


def _counts(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives and predicted positives at each distinct logit, the highest first, and these logits."""
    order = np.argsort(-logits, kind="stable")
    ordered = logits[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of the patches with this logit
    return np.cumsum(labels[order])[last].astype(float), last + 1.0, ordered[last]

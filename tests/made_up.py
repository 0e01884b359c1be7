"""A made-up run: what the stages before `report` would have written, small, and the tables that come of it."""

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd

from pcam_agreement.agreement.measures import kappa
from pcam_agreement.agreement.pairs import ceilings, pair_kind
from pcam_agreement.report import bootstrap, metrics, strata, tables

FRACTION, REPLICATES, SEED = 0.25, 200, 3
PASSES = {"forward": 0, "gradient": 1}
CONTENTS: dict = {  # what fetch leaves beside the data, in part
    "splits": {name: {"label_differs_from_meta": count} for name, count in (("train", 5), ("valid", 0), ("test", 2))},
    "audit": {
        "splits": {name: {"repeated": count} for name, count in (("train", 40), ("valid", 3), ("test", 1))},
        "shared": {
            "train, valid": {"patches": 0, "slides": 0},
            "train, test": {"patches": 6, "slides": 2},
            "valid, test": {"patches": 3, "slides": 0},
        },
    },
}


@dataclass
class Run:
    """Inputs of the tables; then the tables of all methods, one below the other."""

    networks: dict[str, dict]
    logits: dict[str, np.ndarray]  # [n], of the explained patches
    labels: np.ndarray
    outside: np.ndarray
    results: dict[str, dict[str, np.ndarray]]  # by method
    found: dict[str, dict[str, float]] = field(default_factory=dict)
    estimates: dict[str, bootstrap.Estimates] = field(default_factory=dict)
    tests: dict[str, dict] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def make(networks: dict[str, dict], methods=("saliency", "lime"), n=48, slides=8, seed=0) -> Run:
    """Agreement that depends on the kind of pair, the slide and the patch; some maps are constant."""
    random = np.random.default_rng(seed)
    labels, of_slide = random.integers(0, 2, n), np.arange(n) % slides
    skill = np.where(
        [network["epochs"] > 0 for network in networks.values()], random.uniform(0.6, 1.6, len(networks)), 0.1
    )
    logits = {name: own * (2 * labels - 1) + random.normal(0, 1, n) for name, own in zip(networks, skill, strict=True)}
    pairs = list(combinations(range(len(networks)), 2))
    kinds = [pair_kind(*(list(networks.values())[i] for i in pair)) for pair in pairs]
    results = {}
    for method in methods:
        level = np.array([{"trained": random.uniform(0.3, 0.4), "ceiling": 0.5, "floor": 0.22}[kind] for kind in kinds])
        noise = random.normal(0, 0.02, (len(pairs), slides))[:, of_slide] + random.normal(0, 0.05, (len(pairs), n))
        constant = random.random((len(networks), n)) < 0.05
        says = np.array([~(constant[i] | constant[j]) for i, j in pairs])
        iou = np.where(says, np.clip(level[:, None] + noise, 0.01, 0.99), np.nan)
        results[method] = {
            "iou": iou,
            "kappa": kappa(iou, FRACTION),
            **{name: iou / 2 for name in ("weighted_iou", "weighted_iou_chance", "spearman")},
            "null_iou": np.where(says, 0.18 + random.normal(0, 0.02, iou.shape), np.nan),
            "curve": np.array([0.05, 0.25, 0.5]),
            "curve_iou": np.stack([iou / 3, iou, np.sqrt(iou)]),
            "labels": labels,
            "slides": of_slide,
            "constant": constant,
            "repeat_iou": np.where((np.arange(n) < 9) & (method == "lime"), random.random(constant.shape), np.nan),
            "nonfinite": np.zeros_like(constant),
            "unconverged": random.random(constant.shape) < 0.1,
            **{name: random.random(constant.shape) for name in ("max", "sd", "gini", "area", "tied")},
            "centre_share": np.full((1, n), 1 / 9),
            **{
                f"centre_{name}": random.random((len(networks) + 1, n))
                for name in ("mass", "rank_accuracy", "pointing")
            },
        }
    return tabulate(Run(networks, logits, labels, random.random(n) < 0.3, results))


def tabulate(run: Run) -> Run:
    """The run with its tables: what `report` does."""
    run.found = {name: metrics.scores(one, run.labels, 0.0, 15) for name, one in run.logits.items()}
    aurocs = {name: one["auroc"] for name, one in run.found.items()}
    right = np.stack([(one >= 0) == run.labels for one in run.logits.values()])
    parts: dict[str, list] = {}
    for method, results in run.results.items():
        run.estimates[method] = bootstrap.estimate(results, ceilings(run.networks), REPLICATES, SEED)
        table = tables.agreement_table(method, results, run.networks, run.estimates[method])
        gaps = tables.gap_table(table, run.networks, aurocs)
        run.tests[method] = tables.gap_test(gaps, SEED)
        for name, part in {
            "agreement": table,
            "curve": tables.curve_table(table, results["curve"], results["curve_iou"]),
            "strata": strata.strata_table(table, results, right, run.outside, REPLICATES, SEED),
            "faithfulness": _faithfulness(method, run.networks),
            "gaps": gaps,
            "heatmaps": tables.heatmap_table(method, results, {name: {} for name in run.networks}, PASSES),
            "localisation": tables.localisation_table(method, results, list(run.networks)),
        }.items():
            parts.setdefault(name, []).append(part)
    run.tables = {name: pd.concat(part, ignore_index=True) for name, part in parts.items()}
    return run


def _faithfulness(method: str, networks: dict[str, dict]) -> pd.DataFrame:
    """A verdict on every network, in turn; the first columns of `faithfulness_table`."""
    verdicts = np.resize(["informative", "uninformative", "undefined", "uninformative"], len(networks))
    trained = [network["epochs"] > 0 for network in networks.values()]
    return pd.DataFrame(
        {"method": method, "network": list(networks), "trained": trained, "verdict": verdicts, "reason": "deletion"}
    )

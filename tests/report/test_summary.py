"""The summary: every number of it is counted again, slowly and independently."""

from itertools import combinations, permutations
from statistics import mean

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, spearmanr, t

import made_up
from conftest import METHODS, recipe
from pcam_agreement.data import audit
from pcam_agreement.report.faithfulness import count_verdicts
from pcam_agreement.report.summary import as_text, summary

TWINS = {"resnet34": "resnet34_twin", "resnet34_twin": "resnet34", "alexnet": "alexnet_twin", "alexnet_twin": "alexnet"}


def run_of(settings, *more):
    alexnet_twin = {**recipe(settings, "alexnet"), **{"seed": 1}}
    names = ("resnet34", "densenet121", "alexnet", "resnet34_twin", *more, "resnet34_untrained")
    return made_up.make({name: alexnet_twin if name == "alexnet_twin" else recipe(settings, name) for name in names})


def summary_of(run):
    chance = made_up.FRACTION / (2 - made_up.FRACTION)
    faithful = count_verdicts(run.tables["faithfulness"])
    agreement, heatmaps, data = run.tables["agreement"], run.tables["heatmaps"], audit.totals(made_up.CONTENTS)
    return summary(run.found, agreement, heatmaps, run.estimates, run.tests, faithful, chance, data)


@pytest.mark.parametrize(
    "more", [("alexnet_twin",), ("vgg11", "resnet50")], ids=["twins for all", "more architectures"]
)
def test_every_number_is_that_of_a_slow_count(settings, more):
    run = run_of(settings, *more)
    said, counted = flat(summary_of(run)), flat(slow_summary(run))
    assert set(said) == set(counted), "a number of the summary that is not counted here, or the reverse"
    for key, value in counted.items():
        assert said[key] == pytest.approx(value, abs=1e-4), key
    measures = {said[f"auroc_gap.{method}.measure"] for method in run.results}
    assert measures == {"normalised" if more == ("alexnet_twin",) else "excess"}


def flat(tree: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def kind(a: str, b: str) -> str:
    if "untrained" in a + b:
        return "floor"
    return "ceiling" if TWINS.get(a) == b else "trained"


def slow_summary(run) -> dict:
    """Loops over patches, pairs and draws; knows the inputs of the report, and nothing of its code."""
    names, n = list(run.networks), len(run.labels)
    pairs = list(combinations(names, 2))
    aurocs = {name: slow_auroc(run.logits[name], run.labels) for name in names}
    agreement, gaps = {}, {}
    for method, results in run.results.items():
        slides = [int(slide) for slide in results["slides"]]
        count = len(set(slides))
        draws = np.random.default_rng(made_up.SEED).multinomial(count, [1 / count] * count, made_up.REPLICATES)

        values = {
            "iou": results["iou"],
            "null": results["null_iou"],
            "part": [slow_parts(own, results["labels"], results["slides"]) for own in results["null_iou"]],
        }

        def means(key, times, values=values, slides=slides):
            return {pair: slow_mean(values[key][row], slides, times) for row, pair in enumerate(pairs)}

        iou, null = means("iou", [1] * count), means("null", [1] * count)
        iou_draws, null_draws = [means("iou", times) for times in draws], [means("part", times) for times in draws]
        trained = [pair for pair in pairs if kind(*pair) == "trained"]
        a, a_draws = {}, {}
        for pair in trained:
            twins = [tuple(sorted((name, TWINS[name]), key=names.index)) for name in pair if TWINS.get(name) in names]
            if twins:
                ceiling = [mean(one[twin] for twin in twins) for one in [iou, *iou_draws]]
                room = [top - low[pair] for top, low in zip(ceiling, [null, *null_draws], strict=True)]
                if slow_interval(room[1:], count)[0] > 0:
                    a[pair] = (iou[pair] - null[pair]) / room[0]
                    above = [one[pair] - low[pair] for one, low in zip(iou_draws, null_draws, strict=True)]
                    a_draws[pair] = [up / own for up, own in zip(above, room[1:], strict=True)]
        dices = {pair: [2 * j / (1 + j) for j in results["iou"][row] if j == j] for row, pair in enumerate(pairs)}
        kappas = {pair: mean((d - 0.25) / 0.75 for d in own) for pair, own in dices.items()}
        iou_low, iou_high = slow_interval([mean(one[pair] for pair in trained) for one in iou_draws], count)
        a_low, a_high = slow_interval([mean(own) for own in zip(*a_draws.values(), strict=True)], count)
        agreement[method] = {
            "iou": mean(iou[pair] for pair in trained),
            "iou_low": iou_low,
            "iou_high": iou_high,
            "kappa": mean(kappas[pair] for pair in trained),
            "chance": 0.25 / 1.75,
            "null": mean(null[pair] for pair in trained),
            "floor": mean(iou[pair] for pair in pairs if kind(*pair) == "floor"),
            "ceiling": mean(iou[pair] for pair in pairs if kind(*pair) == "ceiling"),
            "repeat_agreement": slow_self(results["repeat_iou"], names),
            "normalised": mean(a.values()),
            "normalised_low": a_low,
            "normalised_high": a_high,
            "constant": sum(map(sum, results["constant"].tolist())),
            "unconverged": sum(map(sum, results["unconverged"].tolist())),
        }
        whole = len(a) == len(trained)
        each = {pair: a[pair] if whole else iou[pair] - null[pair] for pair in trained}
        gaps[method] = {"measure": "normalised" if whole else "excess", **slow_mantel(each, aurocs)}
    return {
        "explained_patches": n,
        "explained_slides": count,
        "auroc": aurocs,
        "accuracy": {
            name: mean(float((z > 0) == (y == 1)) for z, y in zip(run.logits[name], run.labels, strict=True))
            for name in names
        },
        "agreement": agreement,
        "auroc_gap": gaps,
        "faithfulness": {method: slow_verdicts(run.tables["faithfulness"], method) for method in run.results},
        "data": {
            "label_differs_from_meta": 5 + 0 + 2,
            "repeated_patches": 40 + 3 + 1,
            "patches_in_two_splits": 6 + 3,
            "slides_in_two_splits": 2,
        },
    }


def slow_self(ious, names) -> float | None:
    means = [
        mean(value for value in own if value == value)
        for name, own in zip(names, ious, strict=True)
        if "untrained" not in name and any(value == value for value in own)
    ]
    return mean(means) if means else None


def slow_verdicts(table, method) -> dict:
    verdicts = [
        row.verdict for row in table.itertuples() if row.method == method and not row.network.endswith("_untrained")
    ]
    bad = {name: verdicts.count(name) for name in ("uninformative", "undefined")}
    return {"networks": len(verdicts), **bad}


def slow_parts(null, labels, slides) -> list[float]:
    """A patch is in the mean null as the first of two and as the second; the others are of one slide less."""
    found = []
    for own, label in zip(null, labels, strict=True):
        alike = mean([other for other, its in zip(null, labels, strict=True) if its == label and other == other])
        count = len({slide for slide, its in zip(slides, labels, strict=True) if its == label})
        found.append(alike + 2 * (count - 1) / (count - 2) * (own - alike) if own == own else own)
    return found


def slow_mean(values, slides, times) -> float:
    """The mean of the values that are there, each as often as its slide was drawn."""
    drawn = [value for value, slide in zip(values, slides, strict=True) if value == value for _ in range(times[slide])]
    return sum(drawn) / len(drawn)


def slow_interval(draws, slides) -> tuple[float, float]:
    """Percentiles, their distance from the median stretched by Student's t and the bias of so few slides' variance."""
    low, middle, high = (float(np.quantile(draws, level)) for level in (0.025, 0.5, 0.975))
    stretch = t.ppf(0.975, slides - 1) / norm.ppf(0.975) * (slides / (slides - 1)) ** 0.5
    return middle + stretch * (low - middle), middle + stretch * (high - middle)


def slow_auroc(logits, labels) -> float:
    return mean((a > b) + (a == b) / 2 for a in logits[labels == 1] for b in logits[labels == 0])


def slow_mantel(agreement, aurocs) -> dict:
    """All orders of the architectures; twins of one are one."""

    def own(name):
        return name.removesuffix("_twin")

    names = sorted({own(name) for pair in agreement for name in pair})
    pairs = list(combinations(names, 2))
    gap, shared = {}, {}
    for a, b in pairs:
        both = [pair for pair in agreement if {own(pair[0]), own(pair[1])} == {a, b}]
        gap[frozenset((a, b))] = round(mean(abs(aurocs[x] - aurocs[y]) for x, y in both), 12)
        shared[frozenset((a, b))] = mean(agreement[pair] for pair in both)
    rhos = []
    for order in permutations(names):
        other = dict(zip(names, order, strict=True))
        values = [shared[frozenset((other[a], other[b]))] for a, b in pairs]
        rhos.append(spearmanr([gap[frozenset(pair)] for pair in pairs], values).statistic)
    sizes = np.abs(rhos)
    critical = [size for size in sorted(sizes) if np.mean(sizes >= size - 1e-9) <= 0.05]
    return {
        "architectures": len(names),
        "rho": rhos[0],
        "p": float(np.mean(sizes >= sizes[0] - 1e-9)),
        "critical_rho": critical[0] if critical else None,
    }


def test_the_table_of_all_methods_fits_a_terminal(settings):
    run = made_up.make({name: recipe(settings, name) for name in ("resnet34", "resnet34_twin", "densenet121")}, METHODS)
    text = as_text(summary_of(run), run.tables["agreement"])
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("resnet34 ~ resnet34_twin") > 1  # several blocks
    ious = run.tables["agreement"].set_index(["method", "kind"])["iou"]
    shown = [cell for line in text.splitlines() if line.startswith("ceiling") for cell in line.split()[4:]]
    assert shown == [f"{ious[method, 'ceiling']:.3f}" for method in METHODS]


def test_what_is_undefined_is_none(settings):
    run = made_up.make({name: recipe(settings, name) for name in ("resnet34", "resnet34_untrained")}, slides=1)
    found = summary_of(run)["agreement"]["lime"]
    assert found["iou"] is found["iou_low"] is found["ceiling"] is found["normalised"] is None
    assert found["floor"] == pytest.approx(run.tables["agreement"].set_index("method")["iou"]["lime"], abs=1e-4)
    assert isinstance(as_text(summary_of(run), pd.DataFrame(run.tables["agreement"])), str)

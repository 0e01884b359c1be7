"""The summary: its numbers are counted again from the heatmap files, slowly and independently."""

import copy
from itertools import combinations, product
from statistics import mean

import h5py
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pcam_agreement.data.pcam import read_split
from pcam_agreement.report import summary as summary_module
from pcam_agreement.report.summary import as_text
from report_runs import made, run  # noqa: F401  fixtures

K = 2304  # pixels, a quarter


def slow_mask(heatmap: np.ndarray) -> np.ndarray:
    """The highest quarter of the pixels, pixel by pixel; those that tie at the end share."""
    values = heatmap.ravel()
    if values.max() == values.min():
        return np.full(values.shape, 0.25)
    last = sorted(values)[-K]
    above, tied = values > last, values == last
    return above + tied * (K - above.sum()) / tied.sum()


def slow_overlap(first: list, second: list, labels, slides) -> float:
    """C of two networks' masks: same patches less different patches of a label and of other slides."""
    total = 0.0
    for label in set(labels):
        rows = [p for p, its in enumerate(labels) if its == label]
        same = mean(float(first[p] @ second[p]) for p in rows)
        others = mean(float(first[p] @ second[q]) for p, q in product(rows, rows) if slides[p] != slides[q])
        total += len(rows) / len(labels) * (same - others) / K
    return total


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["saliency", "lime"])
def test_every_number_of_a_method_is_that_of_a_slow_count(run, method):  # noqa: F811
    recipes, trainings = run.raw["recipes"], ["1", "2", "3"]
    split = read_split(run.folder / "data" / "patches", "test")
    masks, sharp, repeated, constant = {}, {}, {}, {}
    for name in product(recipes, [*trainings, "untrained"]):
        with h5py.File(run.folder / "data" / "heatmaps" / method / name[0] / f"{name[1]}.h5") as file:
            heatmaps, again = (file[key][...].astype(np.float32) for key in ("heatmaps", "repeated"))
            index, constant[name] = file["index"][...], file["constant"][...]
        masks[name] = [slow_mask(gaussian_filter(heatmap, 2)) for heatmap in heatmaps]
        repeated[name] = [slow_mask(gaussian_filter(heatmap, 2)) for heatmap in again]
        sharp[name] = [slow_mask(heatmap) for heatmap in heatmaps]
    labels, slides = split.labels[index].tolist(), split.meta["wsi"].to_numpy()[index].tolist()

    def c(a, b):
        return slow_overlap(masks[a], masks[b], labels, slides)

    own = {a: [(a, training) for training in trainings] for a in recipes}
    itself = mean(c(i, i) for a in recipes for i in own[a])
    within = {a: mean(c(i, j) for i, j in combinations(own[a], 2)) for a in recipes}
    between = {(a, b): mean(c(i, j) for i in own[a] for j in own[b]) for a, b in combinations(recipes, 2)}
    common, rho = mean(between.values()) / itself, mean(within.values()) / itself
    expected = {
        "common": common,
        "recipe": rho - common,
        "R": sum(between.values()) / sum((within[a] * within[b]) ** 0.5 for a, b in between),
        "trainings_needed": 4 * (1 / rho - 1),
    }
    expected["noise"] = None
    if method == "lime":
        count = len(repeated[recipes[0], "1"])
        part = labels[:count], slides[:count]
        firsts = {i: masks[i][:count] for a in recipes for i in own[a]}
        on_both = mean(slow_overlap(first, first, *part) for first in firsts.values())
        across = mean(slow_overlap(first, repeated[i], *part) for i, first in firsts.items())
        expected["noise"] = (on_both - across) / on_both
    expected["training"] = 1 - rho - (expected["noise"] or 0)
    for kind, pairs in (
        ("between", [(i, j) for a, b in between for i in own[a] for j in own[b]]),
        ("within", [pair for a in recipes for pair in combinations(own[a], 2)]),
    ):
        means = [slow_pair(sharp, constant, labels, slides, *pair) for pair in pairs]
        expected |= {f"iou_{kind}": mean(iou for iou, _ in means), f"null_{kind}": mean(null for _, null in means)}
    said = run.summary["agreement"][method]
    for key, value in expected.items():
        assert said[key] == (None if value is None else pytest.approx(value, abs=2e-4)), key
    if said["input"] is not None:
        assert said["input"] + said["learned"] == pytest.approx(said["common"], abs=2e-4)
        untrained = {a: (a, "untrained") for a in recipes}
        floor = mean(c(untrained[a], untrained[b]) for a, b in between)
        seen = {a: mean(c(i, untrained[b]) for i in own[a] for b in recipes if b != a) for a in recipes}
        assert said["input"] == pytest.approx(mean(seen[a] * seen[b] / floor for a, b in between) / itself, abs=2e-4)
    assert (said["constant"], said["unconverged"], said["unconverged_untrained"]) == (1, 48, 12)


def slow_pair(sharp, constant, labels, slides, i, j) -> tuple[float, float]:
    """The mean IoU on patches of which neither heatmap is constant, and on different patches of other slides."""
    rows = [p for p in range(len(labels)) if not constant[i][p] and not constant[j][p]]
    nulls = []
    for p in rows:
        directed = []
        for a, b in ((i, j), (j, i)):
            others = [
                q
                for q in range(len(labels))
                if labels[q] == labels[p] and slides[q] != slides[p] and not constant[b][q]
            ]
            directed.append(mean(slow_iou(sharp[a][p], sharp[b][q]) for q in others))
        nulls.append(mean(directed))
    return mean(slow_iou(sharp[i][p], sharp[j][p]) for p in rows), mean(nulls)


def test_the_summary_has_few_keys_and_those_of_the_run(run):  # noqa: F811
    summary = run.summary
    assert (summary["explained_patches"], summary["explained_slides"]) == (20, 6)
    assert set(summary["auroc"]) == {f"{a}-{t}" for a in run.raw["recipes"] for t in run.raw["trainings"]}
    assert summary["auroc_gap"] == {}
    assert summary["data"]["patches_in_two_splits"] == 9
    assert summary["faithfulness"]["lime"]["networks"] == summary["faithfulness"]["lime"]["untrained"] == 3
    assert len(summary["agreement"]["lime"]) == 31


def test_the_tables_for_a_terminal_fit_it_and_have_the_shares_and_the_course_projects_tables(run):  # noqa: F811
    pairs = run.table("agreement")
    text = as_text(run.summary, pairs)
    assert max(map(len, text.splitlines())) <= 80
    lines = {line[:32].strip(): line[32:].split() for line in reversed(text.splitlines())}
    numbers = run.summary["agreement"]
    assert lines["shared by two recipes (mean)"] == [
        f"{numbers[method]['common']:.2f}" for method in run.raw["methods"]
    ]
    a, b = run.raw["recipes"][:2]
    for kind, name in (("between", f"{a} ~ {b}"), ("within", f"{a} (own trainings)")):
        rows = pairs[
            (pairs["kind"] == kind) & (pairs["recipe_a"] == a) & (pairs["recipe_b"] == (b if kind == "between" else a))
        ]
        means = rows.groupby("method")["iou"].mean()
        assert lines[name] == [f"{means[method]:.3f}" for method in run.raw["methods"]]
    assert "mean weighted IoU" in text
    values = [value for name, value in run.summary["auroc"].items() if name in {f"{a}-1", f"{a}-2", f"{a}-3"}]
    assert f"{a} {min(values):.3f} to {max(values):.3f}, " in " ".join(text.split())


def test_an_interval_of_two_negative_ends_does_not_run_into_the_one_before(run):  # noqa: F811
    changed = copy.deepcopy(run.summary)
    for numbers in changed["agreement"].values():
        numbers |= {"recipe_low": -0.104, "recipe_high": -0.052}
    text = as_text(changed, run.table("agreement"))
    assert "-0.10–-0.05 -0.10–-0.05" in text
    assert max(map(len, text.splitlines())) <= 80


def test_of_many_recipes_the_terminal_has_means_over_pairs(run, monkeypatch):  # noqa: F811
    monkeypatch.setattr(summary_module, "LISTED", len(run.raw["recipes"]) - 1)
    text = as_text(run.summary, run.table("agreement"))
    assert max(map(len, text.splitlines())) <= 80
    assert " ~ " not in text and "Every pair is in plots/agreement.csv." in text
    found = [line.split()[2:] for line in text.splitlines() if line.startswith("two recipes")]
    numbers = run.summary["agreement"]
    assert found == [
        [f"{numbers[method][f'{measure}_between']:.3f}" for method in run.raw["methods"]] for measure in ("iou", "null")
    ]


@pytest.mark.slow
def test_what_is_undefined_is_none(made, monkeypatch):  # noqa: F811
    report = made(trainings=(1,), recipes=("test_resnet", "alexnet"))
    numbers = report.summary["agreement"]["saliency"]
    assert numbers["R"] is numbers["common"] is numbers["trainings_needed"] is numbers["iou_within"] is None
    assert numbers["iou_between"] > numbers["null_between"]
    assert "test_resnet ~ alexnet" in as_text(report.summary, report.table("agreement"))
    monkeypatch.setattr(summary_module, "LISTED", 1)
    assert " ~ " not in as_text(report.summary, report.table("agreement"))

"""Report: all numbers and figures of the run -> metrics/ and plots/, which only this stage writes.

python -m pcam_agreement.pipeline.report --data data --summary metrics/summary.json --answer … --plots plots
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pcam_agreement.agreement.decomposition import Decomposition
from pcam_agreement.agreement.pairs import shown_order
from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.core import command
from pcam_agreement.core.files import atomic_file, read_arrays, read_json, write_json, write_table
from pcam_agreement.core.settings import Seed, read_params, section
from pcam_agreement.data import audit
from pcam_agreement.data.pcam import CONTENTS, Split, read_split
from pcam_agreement.heatmaps.file import Heatmaps, open_heatmaps
from pcam_agreement.heatmaps.masks import top_mask
from pcam_agreement.networks.recipes import Network, networks, recipes
from pcam_agreement.report import answer, bootstrap, gaps, metrics, shares, tables
from pcam_agreement.report.faithfulness import count_verdicts, faithfulness_table
from pcam_agreement.report.figures import panels, patches
from pcam_agreement.report.figures.catalogue import figures
from pcam_agreement.report.history import read_history
from pcam_agreement.report.limits import Run as Said
from pcam_agreement.report.method_pairs import methods_table
from pcam_agreement.report.settings import Report
from pcam_agreement.report.strata import strata_table
from pcam_agreement.report.summary import summary


@dataclass(frozen=True)
class Run:
    """The parameters of a run and the folder that its other stages wrote to."""

    seed: int
    networks: Sequence[Network]
    recipes: dict[str, dict[str, Any]]
    methods: list[str]
    agreement: Agreement
    report: Report
    data: Path

    def heatmaps(self, method: str) -> list[Heatmaps]:
        return [open_heatmaps(network.path(self.data / "heatmaps" / method, ".h5")) for network in self.networks]


def main(args: Namespace) -> None:
    raw = read_params(args.params)
    run = Run(
        seed=section(raw, "seeds.statistics", Seed),
        networks=networks(raw),
        recipes=recipes(raw, section(raw, "recipes", list[str])),
        methods=section(raw, "methods", list[str]),
        agreement=section(raw, "agreement", Agreement),
        report=section(raw, "report", Report),
        data=args.data,
    )
    logits = [read_arrays(network.path(run.data / "logits", ".h5")) for network in run.networks]
    split = read_split(run.data / "patches", "test")
    given = (split.meta["wsi"].to_numpy(), run.report.ece_bins, run.report.temperature)
    scores = {
        network.name: metrics.network_scores(network.name, arrays, *given)
        for network, arrays in zip(run.networks, logits, strict=True)
    }
    aurocs, right = {name: values["auroc"] for name, values in scores.items()}, _right(logits, scores)
    outside = (split.meta["tumor_patch"].astype(bool) & ~split.meta["center_tumor_patch"].astype(bool)).to_numpy()
    by_method: dict[str, dict[str, pd.DataFrame]] = {}
    decompositions: dict[str, Decomposition] = {}
    titles, slides = {}, 0
    for method in run.methods:
        heatmaps = run.heatmaps(method)
        titles[method] = heatmaps[0].method["title"]
        path = run.data / "agreement" / f"{method}.h5"
        results = _compared(path, "networks", [network.name for network in run.networks])
        views = shares.decompose_views(results, run.networks)
        decompositions[method], slides = next(iter(views.values())), len(np.unique(results["slides"]))
        by_method[method] = _tables(run, method, heatmaps, results, views, aurocs, right, outside)
        figure = args.plots / "figures" / f"panels_{method}.png"
        _gallery(run, titles[method], heatmaps, results, by_method[method]["agreement"], split, figure)
    names = next(iter(by_method.values()))
    whole = {name: pd.concat([part[name] for part in by_method.values()], ignore_index=True) for name in names}
    whole |= _of_networks(run, scores, logits)
    for name, table in whole.items():
        write_table(args.plots / f"{name}.csv", table)
    tests = {method: gaps.gap_test(part["gaps"], run.seed) for method, part in by_method.items()}
    contents = read_json(run.data / "patches" / CONTENTS)
    headline = shares.Of(run.agreement.sigma, run.agreement.top_fraction)
    word, order = answer.recipe_word(run.recipes), shown_order(run.networks)
    for name, drawn in figures(whole, tests, order, headline, titles, word).items():
        panels.save(drawn, args.plots / "figures" / f"{name}.png", dpi=110)
    faithful, counts = count_verdicts(whole["faithfulness"]), audit.totals(contents)
    numbers = summary(scores, decompositions, whole["means"], whole["heatmaps"], tests, faithful, slides, counts)
    write_json(args.summary, numbers)
    told = Said(
        titles=titles,
        decompositions=decompositions,
        means=whole["means"],
        recipes=run.recipes,
        networks=run.networks,
        sigma=run.agreement.sigma,
        fraction=run.agreement.top_fraction,
        synthetic=bool(contents["synthetic"]),
    )
    with atomic_file(args.answer) as partial:
        partial.write_text(answer.answer(told, numbers))


def _compared(path: Path, key: str, names: list[str]) -> dict[str, np.ndarray]:
    """Agreement as a stage wrote it; raises ValueError where it is of other networks (or methods) than the run's."""
    results = read_arrays(path)
    compared = [name.decode() for name in results[key]]
    if compared != names:
        raise ValueError(f"{path}: expected a comparison of {names}, got {compared}; run dvc repro.")
    return results


def _right(logits: list[dict[str, np.ndarray]], scores: dict[str, dict[str, float]]) -> np.ndarray:
    """Which test patches each network has right [m, n], at the threshold that valid chose and not at probability 0.5.

    A network whose logits are shifted ranks patches as well as another, and would be wrong on most of one class.
    """
    thresholds = [values["threshold"] for values in scores.values()]
    return np.stack(
        [
            (arrays["test_logits"] >= threshold) == arrays["test_labels"]
            for arrays, threshold in zip(logits, thresholds, strict=True)
        ]
    )


def _tables(
    run: Run,
    method: str,
    heatmaps: list[Heatmaps],
    results: dict[str, np.ndarray],
    views: dict[shares.Of, Decomposition],
    aurocs: dict[str, float],
    right: np.ndarray,
    outside: np.ndarray,
) -> dict[str, pd.DataFrame]:
    """The tables of one method, by the name of their file; right [m, n] and outside [n] are of all test patches."""
    index, replicates, headline = results["index"], run.agreement.bootstrap, next(iter(views.values()))
    estimates = bootstrap.estimate(results, replicates, run.seed)
    agreement = tables.agreement_table(method, results, run.networks, estimates, headline)
    diagnostics = [{key: maps.arrays[key] for key in sorted(maps.diagnostics)} for maps in heatmaps]
    return {
        "shares": shares.shares_table(method, views),
        "estimates": shares.estimates_table(method, views),
        "recipes": shares.recipes_table(method, headline),
        "reliability": shares.reliability_table(method, headline),
        "agreement": agreement,
        "means": tables.means_table(agreement, estimates),
        "curve": tables.curve_table(agreement, results["curve"], results["curve_iou"], run.agreement.ties),
        "strata": strata_table(agreement, results, right[:, index], outside[index], replicates, run.seed),
        "faithfulness": faithfulness_table(method, _tested(run, method), replicates, run.seed),
        "gaps": gaps.gap_table(method, headline, run.networks, aurocs),
        "heatmaps": tables.heatmap_table(method, results, run.networks, diagnostics, heatmaps[0].method["passes"]),
        "localisation": tables.localisation_table(method, results, run.networks),
    }


def _tested(run: Run, method: str) -> list[tuple[Network, dict[str, np.ndarray]]]:
    """The networks whose faithfulness was tested, each with its areas."""
    networks = {network.name: network for network in run.networks}
    tested = []
    for recipe in run.recipes:
        arrays = read_arrays(run.data / "faithfulness" / method / f"{recipe}.h5")
        slides, names = arrays.pop("slides"), arrays.pop("networks")
        del arrays["index"]
        for row, name in enumerate(names):
            of_network = {key: values[row] for key, values in arrays.items()}
            tested.append((networks[name.decode()], {**of_network, "slides": slides}))
    return tested


def _of_networks(
    run: Run, scores: dict[str, dict[str, float]], logits: list[dict[str, np.ndarray]]
) -> dict[str, pd.DataFrame]:
    """The tables that are about no one method."""
    histories, curves, methods = [], [], []
    for network, arrays in zip(run.networks, logits, strict=True):
        history = read_history(network.path(run.data / "history")).rename_axis("epoch").reset_index()
        histories.append(history.rename(columns=lambda name: name.replace("/", "_")).assign(**tables.named(network)))
        false_positive, true_positive = metrics.roc(arrays["test_logits"], arrays["test_labels"])
        rates = {"false_positive_rate": false_positive, "true_positive_rate": true_positive}
        curves.append(pd.DataFrame({"network": network.name, **rates}))
        results = _compared(network.path(run.data / "agreement_between_methods", ".h5"), "methods", run.methods)
        estimates = bootstrap.estimate(results, run.agreement.bootstrap, run.seed)
        methods.append(methods_table(network, results, run.methods, estimates))
    names = ["network", "recipe", "training"]
    training = pd.concat(histories, ignore_index=True)
    return {
        "training": training[[*names, *(column for column in training if column not in names)]],
        "scores": pd.DataFrame([{**tables.named(network), **scores[network.name]} for network in run.networks]),
        "roc": pd.concat(curves),
        "methods": pd.concat(methods),
    }


def _gallery(
    run: Run,
    title: str,
    heatmaps: list[Heatmaps],
    results: dict[str, np.ndarray],
    table: pd.DataFrame,
    split: Split,
    path: Path,
) -> None:
    """The first two networks of different recipes on the patches they agree on least, and on those they agree on most.

    Of a single recipe, its first two trainings.
    """
    shown = table[(table["kind"] != "untrained") & (table["patches"] > 0)].sort_values("kind", kind="stable")
    if shown.empty:
        return
    row = int(shown.index[0])
    chosen_networks = list(combinations(range(len(run.networks)), 2))[row]
    iou = results["iou"][row]
    ranked = np.argsort(iou, kind="stable")[: np.isfinite(iou).sum()]  # NaN sorts last
    count = min(run.report.panels, len(ranked))
    chosen = np.concatenate([ranked[: (count + 1) // 2], ranked[len(ranked) - count // 2 :]])
    maps = np.stack([np.stack([heatmaps[m].read(slice(i, i + 1))[0] for i in chosen]) for m in chosen_networks])
    flat = maps.reshape(2 * len(chosen), -1).astype(np.float32)
    masks = top_mask(flat, run.agreement.top_fraction, run.agreement.ties).reshape(maps.shape)
    names = (run.networks[chosen_networks[0]].name, run.networks[chosen_networks[1]].name)
    tissue = split.patches[results["index"][chosen]]
    figure = patches.gallery(tissue, maps.astype(np.float32), masks, iou[chosen], names, title)
    panels.save(figure, path, dpi=80, colours=256)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--data", type=Path, required=True, help="folder that the other stages wrote to")
    parser.add_argument("--summary", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--answer", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--plots", type=Path, required=True, help="folder to write tables and figures to")
    command.run(main, parser)

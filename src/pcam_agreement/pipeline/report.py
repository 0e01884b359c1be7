"""Report: all numbers and figures of the run -> metrics/ and plots/, which only this stage writes.

python -m pcam_agreement.pipeline.report --data data --summary metrics/summary.json --answer … --plots plots
"""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pcam_agreement.agreement.measures import chance_iou
from pcam_agreement.agreement.pairs import ceilings, similar_order
from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.core import command
from pcam_agreement.core.files import atomic_file, read_arrays, read_json, write_json, write_table
from pcam_agreement.core.settings import Seed, read_params, section
from pcam_agreement.data import audit
from pcam_agreement.data.pcam import CONTENTS, Split, read_split
from pcam_agreement.heatmaps.file import Heatmaps, open_heatmaps
from pcam_agreement.heatmaps.masks import top_mask
from pcam_agreement.networks.recipes import recipes
from pcam_agreement.report import bootstrap, metrics, tables
from pcam_agreement.report.answer import answer
from pcam_agreement.report.faithfulness import count_verdicts, faithfulness_table
from pcam_agreement.report.figures import faithfulness, pairs, panels, patches, trends
from pcam_agreement.report.history import read_history
from pcam_agreement.report.method_pairs import methods_table
from pcam_agreement.report.settings import Report
from pcam_agreement.report.strata import strata_table
from pcam_agreement.report.summary import summary


@dataclass(frozen=True)
class Run:
    """The parameters of a run and the folder that its other stages wrote to."""

    seed: int
    networks: dict[str, dict[str, Any]]  # recipes by name, in the order of the parameters
    methods: list[str]
    tested: list[str]  # the networks whose faithfulness is tested
    agreement: Agreement
    report: Report
    data: Path

    def heatmaps(self, method: str) -> dict[str, Heatmaps]:
        folder = self.data / "heatmaps" / method
        return {name: open_heatmaps(folder / f"{name}.h5") for name in self.networks}


def main(args: Namespace) -> None:
    raw = read_params(args.params)
    run = Run(
        seed=section(raw, "seed", Seed),
        networks=recipes(raw, section(raw, "networks", list[str])),
        methods=section(raw, "methods", list[str]),
        tested=section(raw, "tested", list[str]),
        agreement=section(raw, "agreement", Agreement),
        report=section(raw, "report", Report),
        data=args.data,
    )
    logits = {name: read_arrays(run.data / "logits" / f"{name}.h5") for name in run.networks}
    scores = {
        name: metrics.network_scores(name, arrays, run.report.ece_bins, run.report.temperature)
        for name, arrays in logits.items()
    }
    # Right at the threshold that valid chose, as sensitivity and specificity, not at probability 0.5: a network whose
    # logits are shifted ranks patches as well as another, and would be wrong on most of one class.
    right = np.stack(
        [
            (arrays["test_logits"] >= scores[name]["threshold"]) == arrays["test_labels"]
            for name, arrays in logits.items()
        ]
    )
    split = read_split(run.data / "patches", "test")
    outside = (split.meta["tumor_patch"].astype(bool) & ~split.meta["center_tumor_patch"].astype(bool)).to_numpy()
    by_method: dict[str, list[pd.DataFrame]] = {}
    estimates, tests, titles = {}, {}, {}
    for method in run.methods:
        heatmaps = run.heatmaps(method)
        titles[method] = next(iter(heatmaps.values())).method["title"]
        results = _compared(run.data / "agreement" / f"{method}.h5", "networks", list(run.networks))
        estimates[method] = bootstrap.estimate(results, ceilings(run.networks), run.agreement.bootstrap, run.seed)
        of_method = _tables(run, method, heatmaps, results, scores, right, outside, estimates[method])
        tests[method] = tables.gap_test(of_method["gaps"], run.seed)
        for name, table in of_method.items():
            by_method.setdefault(name, []).append(table)
        _gallery(run, titles[method], heatmaps, results, of_method["agreement"], split, args.plots, method)
    whole = {name: pd.concat(tables, ignore_index=True) for name, tables in by_method.items()}
    histories = {name: read_history(run.data / "history" / name) for name in run.networks}
    training = pd.concat(histories, names=["network", "epoch"]).reset_index()
    whole["methods"] = pd.concat([_methods(run, name) for name in run.networks])
    whole["training"] = training.rename(columns=lambda name: name.replace("/", "_"))
    whole["scores"] = pd.DataFrame(scores).T.rename_axis("network").reset_index()
    whole["roc"] = pd.concat([_roc(name, arrays) for name, arrays in logits.items()])
    for name, table in whole.items():
        write_table(args.plots / f"{name}.csv", table)
    _figures(run, whole, tests, titles, args.plots / "figures")

    contents = read_json(run.data / "patches" / CONTENTS)
    fraction = run.agreement.top_fraction
    numbers = summary(
        scores,
        whole["agreement"],
        whole["heatmaps"],
        estimates,
        tests,
        count_verdicts(whole["faithfulness"]),
        chance_iou(fraction, run.agreement.ties),
        audit.totals(contents),
    )
    write_json(args.summary, numbers)
    with atomic_file(args.answer) as partial:
        text = answer(
            numbers, whole["agreement"], whole["strata"], whole["curve"], fraction, titles, bool(contents["synthetic"])
        )
        partial.write_text(text)


def _compared(path: Path, key: str, names: list[str]) -> dict[str, np.ndarray]:
    """Agreement as a stage wrote it; raises ValueError where it is of other networks (or methods) than the run's."""
    results = read_arrays(path)
    compared = [name.decode() for name in results[key]]
    if compared != names:
        raise ValueError(f"{path}: expected a comparison of {names}, got {compared}; run dvc repro.")
    return results


def _tables(
    run: Run,
    method: str,
    heatmaps: dict[str, Heatmaps],
    results: dict[str, np.ndarray],
    scores: dict[str, dict[str, float]],
    right: np.ndarray,
    outside: np.ndarray,
    estimates: bootstrap.Estimates,
) -> dict[str, pd.DataFrame]:
    """The tables of one method, by the name of their file."""
    index, replicates = results["index"], run.agreement.bootstrap
    agreement = tables.agreement_table(method, results, run.networks, estimates)
    diagnostics = {name: {key: maps.arrays[key] for key in sorted(maps.diagnostics)} for name, maps in heatmaps.items()}
    passes = next(iter(heatmaps.values())).method["passes"]
    tested = [name for name in run.networks if name in run.tested]
    areas = {name: read_arrays(run.data / "faithfulness" / method / f"{name}.h5") for name in tested}
    trained = [name for name, recipe in run.networks.items() if recipe["epochs"]]
    return {
        "agreement": agreement,
        "curve": tables.curve_table(agreement, results["curve"], results["curve_iou"], run.agreement.ties),
        "strata": strata_table(agreement, results, right[:, index], outside[index], replicates, run.seed),
        "faithfulness": faithfulness_table(method, areas, trained, replicates, run.seed),
        "gaps": tables.gap_table(agreement, run.networks, {name: s["auroc"] for name, s in scores.items()}),
        "heatmaps": tables.heatmap_table(method, results, diagnostics, passes),
        "localisation": tables.localisation_table(method, results, list(run.networks)),
    }


def _methods(run: Run, network: str) -> pd.DataFrame:
    results = _compared(run.data / "agreement_between_methods" / f"{network}.h5", "methods", run.methods)
    no_ceilings: list = [[] for _ in results["iou"]]
    estimates = bootstrap.estimate(results, no_ceilings, run.agreement.bootstrap, run.seed)
    return methods_table(network, results, run.methods, estimates)


def _roc(network: str, arrays: dict[str, np.ndarray]) -> pd.DataFrame:
    false_positive_rate, true_positive_rate = metrics.roc(arrays["test_logits"], arrays["test_labels"])
    columns = {
        "network": network,
        "false_positive_rate": false_positive_rate,
        "true_positive_rate": true_positive_rate,
    }
    return pd.DataFrame(columns)


def _figures(
    run: Run, whole: dict[str, pd.DataFrame], tests: dict[str, dict], titles: dict[str, str], folder: Path
) -> None:
    agreement, fraction = whole["agreement"], run.agreement.top_fraction
    chance, order = chance_iou(fraction, run.agreement.ties), similar_order(agreement, list(run.networks))
    for name, figure in {
        "agreement": pairs.agreement_matrices(agreement, order, fraction, chance, titles),
        "intervals": pairs.agreement_intervals(agreement, chance, titles),
        "normalised": pairs.normalised_intervals(agreement, titles),
        "curve": trends.curves(whole["curve"], titles),
        "strata": trends.strata_means(whole["strata"], titles),
        "faithfulness": faithfulness.gains(whole["faithfulness"], titles),
        "gaps": trends.performance_gaps(whole["gaps"], tests, titles),
        "localisation": patches.localisation_bars(whole["localisation"], titles),
    }.items():
        panels.save(figure, folder / f"{name}.png", dpi=110)


def _gallery(
    run: Run,
    title: str,
    heatmaps: dict[str, Heatmaps],
    results: dict[str, np.ndarray],
    table: pd.DataFrame,
    split: Split,
    plots: Path,
    method: str,
) -> None:
    """The first pair of trained networks on the patches they agree on least, and on those they agree on most."""
    shown = table[(table["kind"] == "trained") & (table["patches"] > 0)]
    if shown.empty:
        return
    names = (str(shown.iloc[0]["network_a"]), str(shown.iloc[0]["network_b"]))
    iou = results["iou"][list(combinations(heatmaps, 2)).index(names)]
    ranked = np.argsort(iou, kind="stable")[: np.isfinite(iou).sum()]  # NaN sorts last
    count = min(run.report.panels, len(ranked))
    chosen = np.concatenate([ranked[: (count + 1) // 2], ranked[len(ranked) - count // 2 :]])
    maps = np.stack([np.stack([heatmaps[name].read(slice(i, i + 1))[0] for i in chosen]) for name in names])
    flat = maps.reshape(2 * len(chosen), -1).astype(np.float32)
    masks = top_mask(flat, run.agreement.top_fraction, run.agreement.ties).reshape(maps.shape)
    tissue = split.patches[results["index"][chosen]]
    figure = patches.gallery(tissue, maps.astype(np.float32), masks, iou[chosen], names, title)
    panels.save(figure, plots / "figures" / f"panels_{method}.png", dpi=80, colours=256)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--data", type=Path, required=True, help="folder that the other stages wrote to")
    parser.add_argument("--summary", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--answer", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--plots", type=Path, required=True, help="folder to write tables and figures to")
    command.run(main, parser)

"""Report: all numbers and pictures of the run -> metrics/ and plots/, which only this stage writes."""

from argparse import ArgumentParser, Namespace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from pcam_agreement import agreement, audit, command, gate, heatmap, intervals, params, pcam, scores, store, tables
from pcam_agreement.answer import answer
from pcam_agreement.between_methods import methods_table
from pcam_agreement.figures import faithfulness, pairs, panels, patches, trends
from pcam_agreement.strata import strata_table
from pcam_agreement.summary import summary


def main(args: Namespace) -> None:
    settings = params.load(args.params)
    networks = {name: settings.network[name] for name in settings.networks}
    found = {name: store.read_json(args.data / "scores" / f"{name}.json") for name in networks}
    predictions = {name: store.read_arrays(args.data / "predictions" / f"{name}.h5") for name in networks}
    # At the threshold that valid chose and sensitivity and specificity are at, not at probability 0.5: a network whose
    # logits are shifted ranks patches as well as another, and would be wrong on most of one class.
    right = np.stack(
        [(one["test_logits"] >= found[name]["threshold"]) == one["test_labels"] for name, one in predictions.items()]
    )
    split = pcam.read(args.data / "patches", "test")
    outside = (split.meta["tumor_patch"].astype(bool) & ~split.meta["center_tumor_patch"].astype(bool)).to_numpy()
    chosen = settings.agreement
    fraction, ties, draws = chosen.top_fraction, chosen.ties, chosen.bootstrap
    aurocs = {name: found[name]["auroc"] for name in networks}
    parts: dict[str, list[pd.DataFrame]] = {}
    estimates, tests = {}, {}
    for method in settings.methods:
        results = store.read_arrays(args.data / "agreement" / f"{method}.h5")
        compared = [name.decode() for name in results["networks"]]
        if compared != settings.networks:
            raise ValueError(f"{method} was compared for {compared}, not {settings.networks}; run dvc repro.")
        folder, index = args.data / "heatmaps" / method, results["index"]
        sets = {name: store.open_heatmaps(folder / f"{name}.h5") for name in networks}
        own = {name: {key: one.arrays[key] for key in sorted(one.diagnostics)} for name, one in sets.items()}
        estimates[method] = intervals.estimate(results, tables.ceilings(networks), draws, settings.seed)
        table = tables.agreement_table(method, results, networks, estimates[method])
        gaps = tables.gap_table(table, networks, aurocs)
        tests[method] = tables.gap_test(gaps, settings.seed)
        for name, part in {
            "agreement": table,
            "curve": tables.curve_table(table, results["curve"], results["curve_iou"], ties),
            "strata": strata_table(table, results, right[:, index], outside[index], draws, settings.seed),
            "faithfulness": _faithfulness(method, settings, args.data),
            "gaps": gaps,
            "heatmaps": tables.heatmap_table(method, results, own),
            "localisation": tables.localisation_table(method, results, settings.networks),
        }.items():
            parts.setdefault(name, []).append(part)
        _gallery(method, sets, results, table, split, settings, args)
    whole = {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}
    histories = {name: store.read_history(args.data / "training" / name) for name in networks}
    training = pd.concat(histories, names=["network", "epoch"]).reset_index()
    whole["methods"] = pd.concat([_methods(name, settings, args.data) for name in networks])
    whole["training"] = training.rename(columns=lambda name: name.replace("/", "_"))
    whole["scores"] = pd.DataFrame(found).T.rename_axis("network").reset_index()
    whole["roc"] = pd.concat([_roc(name, one) for name, one in predictions.items()])
    for name, one in whole.items():
        store.write_table(args.plots / f"{name}.csv", one)

    chance, order = agreement.chance_iou(fraction, ties), tables.similar_order(whole["agreement"], settings.networks)
    for name, figure in {
        "agreement": pairs.agreement_matrices(whole["agreement"], order, fraction, chance),
        "intervals": pairs.agreement_intervals(whole["agreement"], chance),
        "normalised": pairs.normalised_intervals(whole["agreement"]),
        "curve": trends.curves(whole["curve"]),
        "strata": trends.strata_means(whole["strata"]),
        "faithfulness": faithfulness.gains(whole["faithfulness"]),
        "gaps": trends.performance_gaps(whole["gaps"], tests),
        "localisation": patches.localisation_bars(whole["localisation"]),
    }.items():
        panels.save(figure, args.plots / "figures" / f"{name}.png", dpi=110)

    faithful = gate.counts(whole["faithfulness"])
    data = audit.few(store.read_json(args.data / "patches" / pcam.CONTENTS))
    few = summary(found, whole["agreement"], whole["heatmaps"], estimates, tests, faithful, chance, data)
    store.write_json(args.summary, few)
    with store.final(args.answer) as partial:
        partial.write_text(answer(few, whole["agreement"], whole["strata"], whole["curve"], fraction))


def _faithfulness(method: str, settings: params.Params, data: Path) -> pd.DataFrame:
    folder = data / "faithfulness" / method
    found = {name: store.read_arrays(folder / f"{name}.h5") for name in settings.networks}
    trained = [name for name in settings.networks if settings.network[name].epochs]
    return gate.faithfulness_table(method, found, trained, settings.agreement.bootstrap, settings.seed)


def _methods(network: str, settings: params.Params, data: Path) -> pd.DataFrame:
    results = store.read_arrays(data / "agreement_between_methods" / f"{network}.h5")
    compared = [name.decode() for name in results["methods"]]
    if compared != settings.methods:
        raise ValueError(f"{network} was compared for {compared}, not {settings.methods}; run dvc repro.")
    no_twins: list = [[] for _ in results["iou"]]
    estimates = intervals.estimate(results, no_twins, settings.agreement.bootstrap, settings.seed)
    return methods_table(network, results, settings.methods, estimates)


def _roc(network: str, predictions: dict[str, np.ndarray]) -> pd.DataFrame:
    false_positives, true_positives = scores.roc(predictions["test_logits"], predictions["test_labels"])
    columns = {"network": network, "false_positive_rate": false_positives, "true_positive_rate": true_positives}
    return pd.DataFrame(columns)


def _gallery(
    method: str,
    sets: dict[str, store.Heatmaps],
    results: dict[str, np.ndarray],
    table: pd.DataFrame,
    split: pcam.Split,
    settings: params.Params,
    args: Namespace,
) -> None:
    """The first pair of trained networks on the patches they agree on least, and on those they agree on most."""
    shown = table[(table["kind"] == "trained") & (table["patches"] > 0)]
    if shown.empty:
        return
    names = (str(shown.iloc[0]["network_a"]), str(shown.iloc[0]["network_b"]))
    iou = results["iou"][list(combinations(sets, 2)).index(names)]
    ranked = np.argsort(iou, kind="stable")[: np.isfinite(iou).sum()]  # NaN sorts last
    count = min(settings.report.panels, len(ranked))
    chosen = np.concatenate([ranked[: (count + 1) // 2], ranked[len(ranked) - count // 2 :]])
    heatmaps = np.stack([np.stack([sets[name].read(slice(i, i + 1))[0] for i in chosen]) for name in names])
    flat = heatmaps.reshape(2 * len(chosen), -1).astype(np.float32)
    masks = heatmap.top_mask(flat, settings.agreement.top_fraction, settings.agreement.ties).reshape(heatmaps.shape)
    tissue = split.patches[results["index"][chosen]]
    figure = patches.gallery(tissue, heatmaps.astype(np.float32), masks, iou[chosen], names, method)
    panels.save(figure, args.plots / "figures" / f"panels_{method}.png", dpi=80, colours=256)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--data", type=Path, required=True, help="folder that the other stages wrote to")
    parser.add_argument("--summary", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--answer", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--plots", type=Path, required=True, help="folder to write tables and figures to")
    command.run(main, parser)

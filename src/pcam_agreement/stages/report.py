"""Report: all numbers and pictures of the run -> metrics/ and plots/, which only this stage writes."""

from argparse import ArgumentParser, Namespace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from pcam_agreement import agreement, command, figures, gate, heatmap, intervals, params, pcam, scores, store, tables
from pcam_agreement.answer import answer
from pcam_agreement.between_methods import methods_table
from pcam_agreement.figures_faithfulness import faithfulness_gains


def main(args: Namespace) -> None:
    settings = params.load(args.params)
    networks = {name: settings.network[name] for name in settings.networks}
    found = {name: store.read_json(args.data / "scores" / f"{name}.json") for name in networks}
    fraction = settings.agreement.top_fraction
    aurocs = {name: found[name]["auroc"] for name in networks}
    pairs, maps, gaps, where, estimates = [], [], [], [], {}
    ceilings = tables.ceilings(networks)
    for method in settings.methods:
        results = store.read_arrays(args.data / "agreement" / f"{method}.h5")
        compared = [name.decode() for name in results["networks"]]
        if compared != settings.networks:
            raise ValueError(f"{method} was compared for {compared}, not {settings.networks}; run dvc repro.")
        folder = args.data / "heatmaps" / method
        sets = {name: store.open_heatmaps(folder / f"{name}.h5") for name in networks}
        own = {name: {key: one.arrays[key] for key in sorted(one.diagnostics)} for name, one in sets.items()}
        estimates[method] = intervals.estimate(
            results["iou"],
            results["null_iou"],
            results["slides"],
            ceilings,
            settings.agreement.bootstrap,
            settings.seed,
        )
        pairs.append(tables.agreement_table(method, results, networks, estimates[method]))
        gaps.append(tables.gap_table(pairs[-1], networks, aurocs))
        where.append(tables.localisation_table(method, results, settings.networks))
        maps.append(tables.heatmap_table(method, results, own))
        _panels(method, sets, results, pairs[-1], settings, args)
    all_pairs, all_maps = pd.concat(pairs, ignore_index=True), pd.concat(maps, ignore_index=True)
    chance = agreement.chance_iou(fraction)
    figure = figures.agreement_matrices(all_pairs, settings.networks, fraction, chance)
    figures.save(figure, args.plots / "figures" / "agreement.png", dpi=110)
    figures.save(figures.agreement_intervals(all_pairs, chance), args.plots / "figures" / "intervals.png", dpi=110)

    all_where = pd.concat(where, ignore_index=True)
    figures.save(figures.localisation_bars(all_where), args.plots / "figures" / "localisation.png", dpi=110)
    all_gaps = pd.concat(gaps, ignore_index=True)
    tests = {name: tables.gap_test(one, settings.seed) for name, one in zip(settings.methods, gaps, strict=True)}
    figures.save(figures.performance_gaps(all_gaps, tests), args.plots / "figures" / "gaps.png", dpi=110)

    faithful = pd.concat([_faithfulness(method, settings, args.data) for method in settings.methods])
    figures.save(faithfulness_gains(faithful), args.plots / "figures" / "faithfulness.png", dpi=110)

    summary = tables.summary(found, all_pairs, all_maps, estimates, tests, chance)
    summary["faithfulness"] = gate.counts(faithful)
    store.write_json(args.summary, summary)
    with store.final(args.answer) as partial:
        partial.write_text(answer(summary, all_pairs, fraction))
    store.write_table(args.plots / "agreement.csv", all_pairs)
    store.write_table(args.plots / "faithfulness.csv", faithful)
    store.write_table(args.plots / "gaps.csv", all_gaps)
    store.write_table(args.plots / "heatmaps.csv", all_maps)
    store.write_table(args.plots / "localisation.csv", all_where)
    store.write_table(args.plots / "methods.csv", pd.concat([_methods(name, settings, args.data) for name in networks]))
    store.write_table(args.plots / "scores.csv", pd.DataFrame(found).T.rename_axis("network").reset_index())
    histories = {name: store.read_history(args.data / "training" / name) for name in networks}
    training = pd.concat(histories, names=["network", "epoch"]).reset_index()
    store.write_table(args.plots / "training.csv", training.rename(columns=lambda name: name.replace("/", "_")))
    store.write_table(args.plots / "roc.csv", pd.concat([_roc(name, args.data) for name in networks]))


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
    draws, seed = settings.agreement.bootstrap, settings.seed
    found = intervals.estimate(results["iou"], results["null_iou"], results["slides"], no_twins, draws, seed)
    return methods_table(network, results, settings.methods, found)


def _roc(network: str, data: Path) -> pd.DataFrame:
    predictions = store.read_arrays(data / "predictions" / f"{network}.h5")
    false_positives, true_positives = scores.roc(predictions["test_logits"], predictions["test_labels"])
    columns = {"network": network, "false_positive_rate": false_positives, "true_positive_rate": true_positives}
    return pd.DataFrame(columns)


def _panels(
    method: str,
    sets: dict[str, store.Heatmaps],
    results: dict[str, np.ndarray],
    pairs: pd.DataFrame,
    settings: params.Params,
    args: Namespace,
) -> None:
    """The first pair of trained networks on patches from the least to the most agreed, evenly spaced in rank."""
    shown = pairs[(pairs["kind"] == "trained") & (pairs["patches"] > 0)]
    if shown.empty:
        return
    names = (str(shown.iloc[0]["network_a"]), str(shown.iloc[0]["network_b"]))
    iou = results["iou"][list(combinations(sets, 2)).index(names)]
    ranked = np.argsort(iou, kind="stable")[: np.isfinite(iou).sum()]  # NaN sorts last
    chosen = ranked[np.linspace(0, len(ranked) - 1, min(settings.report.panels, len(ranked))).round().astype(int)]
    heatmaps = np.stack([np.stack([sets[name].read(slice(i, i + 1))[0] for i in chosen]) for name in names])
    flat = heatmaps.reshape(2 * len(chosen), -1).astype(np.float32)
    masks = heatmap.top_mask(flat, settings.agreement.top_fraction, settings.agreement.ties).reshape(heatmaps.shape)
    patches = pcam.read(args.data / "patches", "test").patches[results["index"][chosen]]
    figure = figures.pair_panels(patches, heatmaps.astype(np.float32), masks, iou[chosen], names, method)
    figures.save(figure, args.plots / "figures" / f"panels_{method}.png", dpi=70)  # tissue does not compress


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--data", type=Path, required=True, help="folder that the other stages wrote to")
    parser.add_argument("--summary", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--answer", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--plots", type=Path, required=True, help="folder to write tables and figures to")
    command.run(main, parser)

"""A made-up run on disk: all that the atlas is made of, with heatmaps that need not be computed."""

from argparse import Namespace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

import made_up
from pcam_agreement import audit, gate, heatmap, params, pcam, store
from pcam_agreement.agreement import chance_iou
from pcam_agreement.answer import answer
from pcam_agreement.stages import atlas, compare
from pcam_agreement.summary import summary

SIDE = pcam.PATCH
NEVER = 2  # the row of a patch of which the first network's heatmap says nothing, whatever the method


def write(
    folder: Path, raw: dict, patches: int = 24, slides: int = 4, masks: bool = True, silent: str | None = None
) -> None:
    """Patches, heatmaps, predictions, agreement, tables and answer, where the stages would have written them.

    silent: a network whose heatmaps say nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    YAML().dump(raw, folder / "params.yaml")
    settings, data = params.check(raw), folder / "data"
    networks = {name: settings.network[name] for name in settings.networks}
    split = _patches(data / "patches", patches, slides, masks)
    index = np.arange(1, patches)  # all but the first
    for row, (method, network) in enumerate(product(settings.methods, networks)):
        path = data / "heatmaps" / method / f"{network}.h5"
        zero = slice(None) if network == silent else [NEVER] if network == settings.networks[0] else []
        _heatmaps(path, method, index, np.random.default_rng([row, 7]), zero)
    for method in settings.methods:
        files = {"patches": data / "patches", "heatmaps": data / "heatmaps" / method}
        agreement = data / "agreement" / f"{method}.h5"
        compare.main(Namespace(params=folder / "params.yaml", agreement=agreement, **files))
    logits = {}
    for row, name in enumerate(networks):
        random = np.random.default_rng([row, 8])
        logits[name] = ((2.0 * split.labels - 1) * 0.8 + random.normal(0, 1.5, patches)).astype(np.float32)
        predictions = {"test_logits": logits[name], "test_labels": split.labels}
        store.write_arrays(data / "predictions" / f"{name}.h5", predictions)
        store.write_json(data / "scores" / f"{name}.json", {"threshold": 0.7 * row - 1})
    _report(folder, settings, split, index, {name: one[index] for name, one in logits.items()})


def build(folder: Path) -> Path:
    """The page of the run in this folder."""
    files = {name: folder / name for name in ("data", "plots")}
    files |= {"summary": folder / "metrics" / "summary.json", "answer": folder / "metrics" / "answer.md"}
    atlas.main(Namespace(params=folder / "params.yaml", atlas=folder / "data" / "atlas", **files))
    return folder / "data" / "atlas" / "index.html"


def _patches(folder: Path, count: int, slides: int, masks: bool) -> pcam.Split:
    random = np.random.default_rng(5)
    folder.mkdir(parents=True)
    coarse = random.integers(60, 250, (count, SIDE // 4, SIDE // 4, 3)).repeat(4, 1).repeat(4, 2)
    tissue = (coarse + random.integers(0, 6, (count, SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
    labels = (np.arange(count) % 2).astype(np.uint8)
    outside = np.arange(count) % 6 == 0
    tumour = np.zeros((count, SIDE, SIDE), np.uint8)
    tumour[labels == 1, 30:70, 40:60] = 255
    tumour[outside, :20, 10:90] = 255
    columns = {"coord_y": 0, "coord_x": 0, "tumor_patch": (labels == 1) | outside, "center_tumor_patch": labels == 1}
    meta = pd.DataFrame({**columns, "wsi": [f"slide_{number % slides}" for number in range(count)]})
    pcam.write(folder, "test", [tissue], labels, meta, [tumour] if masks else None)
    return pcam.read(folder, "test")


def _heatmaps(path: Path, method: str, index: np.ndarray, random: np.random.Generator, zero: slice | list) -> None:
    """Noise within a blob, or where the method has superpixels, one value a square; some maps of zeros."""
    n, away = len(index), np.arange(SIDE)
    blob = np.exp(-((away - random.uniform(30, 66, (n, 1))) ** 2) / 900)
    maps = blob[:, :, None] * blob[:, None, ::-1] + 0.05
    if method in ("lime", "kernel_shap"):
        maps = maps[:, 6::12, 6::12].repeat(12, 1).repeat(12, 2)
        diagnostics = {"r2": random.random(n)}
    else:
        maps = maps * random.exponential(1, maps.shape)
        diagnostics = {"completeness_error": random.random(n).astype(np.float32)}
    maps[zero] = 0
    maps, constant = heatmap.normalise(maps)
    chunk = {"index": index, "heatmaps": maps.astype(np.float16), "logits": np.zeros(n, np.float32), **diagnostics}
    chunk |= {"constant": constant, "nonfinite": np.zeros(n, bool), "unconverged": np.arange(n) % 5 == 4}
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_chunk(path.with_suffix(".npz"), chunk)
    store.merge_chunks([path.with_suffix(".npz")], path, n, {})
    path.with_suffix(".npz").unlink()


def _report(folder: Path, settings: params.Params, split: pcam.Split, index: np.ndarray, logits: dict) -> None:
    """The tables and the text that `report` makes of it."""
    results = {method: store.read_arrays(folder / "data" / "agreement" / f"{method}.h5") for method in settings.methods}
    networks = {name: settings.network[name] for name in settings.networks}
    outside = (split.meta["tumor_patch"] & ~split.meta["center_tumor_patch"]).to_numpy()[index]
    run = made_up.tabulate(made_up.Run(networks, logits, split.labels[index], outside, results))
    for name in atlas.TABLES:
        store.write_table(folder / "plots" / f"{name}.csv", run.tables[name])
    fraction, whole = settings.agreement.top_fraction, run.tables
    faithful, chance = gate.counts(whole["faithfulness"]), chance_iou(fraction)
    data = audit.few(made_up.CONTENTS)
    few = summary(run.found, whole["agreement"], whole["heatmaps"], run.estimates, run.tests, faithful, chance, data)
    store.write_json(folder / "metrics" / "summary.json", few)
    text = answer(few, whole["agreement"], whole["strata"], whole["curve"], fraction)
    (folder / "metrics" / "answer.md").write_text(text)

"""A made-up run on disk: all that the atlas is made of, with heatmaps that need not be computed."""

from argparse import Namespace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

import made_up
from conftest import recipe
from pcam_agreement.agreement.measures import chance_iou
from pcam_agreement.core.files import read_arrays, write_arrays, write_json, write_table
from pcam_agreement.core.patch import PATCH
from pcam_agreement.data import audit
from pcam_agreement.data.pcam import CONTENTS, Split, read_split, write_split
from pcam_agreement.heatmaps.file import merge_chunks, write_chunk
from pcam_agreement.heatmaps.masks import normalise
from pcam_agreement.pipeline import atlas, compare
from pcam_agreement.pipeline.params import Params, check_params
from pcam_agreement.report.answer import answer
from pcam_agreement.report.faithfulness import count_verdicts
from pcam_agreement.report.summary import summary

SIDE = PATCH
NEVER = 2  # the row of a patch of which the first network's heatmap is constant, whatever the method


def write(
    folder: Path, raw: dict, patches: int = 24, slides: int = 4, masks: bool = True, silent: str | None = None
) -> None:
    """Patches, heatmaps, logits, agreement, tables and answer, where the stages would have written them.

    silent: a network whose heatmaps are constant.
    """
    folder.mkdir(parents=True, exist_ok=True)
    YAML().dump(raw, folder / "params.yaml")
    settings, data = check_params(raw), folder / "data"
    networks = settings.networks
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
        write_arrays(data / "logits" / f"{name}.h5", {"test_logits": logits[name], "test_labels": split.labels})
    write_json(data / "patches" / CONTENTS, {"synthetic": True})
    _report(folder, settings, split, index, {name: one[index] for name, one in logits.items()})


def build(folder: Path) -> Path:
    """The page of the run in this folder."""
    files = {name: folder / name for name in ("data", "plots")}
    files |= {"summary": folder / "metrics" / "summary.json", "answer": folder / "metrics" / "answer.md"}
    atlas.main(Namespace(params=folder / "params.yaml", atlas=folder / "data" / "atlas", **files))
    return folder / "data" / "atlas" / "index.html"


def _patches(folder: Path, count: int, slides: int, masks: bool) -> Split:
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
    write_split(folder, "test", [tissue], labels, meta, [tumour] if masks else None)
    return read_split(folder, "test")


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
        diagnostics = {"convergence_delta": random.random(n).astype(np.float32)}
    maps[zero] = 0
    maps, constant = normalise(maps)
    chunk = {"index": index, "heatmaps": maps.astype(np.float16), "logits": np.zeros(n, np.float32), **diagnostics}
    chunk |= {"constant": constant, "nonfinite": np.zeros(n, bool), "unconverged": np.arange(n) % 5 == 4}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_chunk(path.with_suffix(".npz"), chunk)
    described = {"name": method, "title": method.upper(), "description": f"what {method} shows", "stochastic": False}
    described["passes"] = made_up.PASSES
    merge_chunks([path.with_suffix(".npz")], path, n, described, {})
    path.with_suffix(".npz").unlink()


def _report(folder: Path, settings: Params, split: Split, index: np.ndarray, logits: dict) -> None:
    """The tables and the text that `report` makes of it."""
    results = {method: read_arrays(folder / "data" / "agreement" / f"{method}.h5") for method in settings.methods}
    networks = {name: recipe(settings, name) for name in settings.networks}
    outside = (split.meta["tumor_patch"] & ~split.meta["center_tumor_patch"]).to_numpy()[index]
    run = made_up.tabulate(made_up.Run(networks, logits, split.labels[index], outside, results))
    scores = pd.DataFrame(run.found).T.rename_axis("network").reset_index()
    run.tables["scores"] = scores.assign(threshold=[0.7 * row - 1 for row in range(len(networks))])
    for name in atlas.TABLES:
        write_table(folder / "plots" / f"{name}.csv", run.tables[name])
    fraction, whole = settings.agreement.top_fraction, run.tables
    faithful, chance = count_verdicts(whole["faithfulness"]), chance_iou(fraction)
    data = audit.totals(made_up.CONTENTS)
    few = summary(run.found, whole["agreement"], whole["heatmaps"], run.estimates, run.tests, faithful, chance, data)
    write_json(folder / "metrics" / "summary.json", few)
    titles = {name: name.upper() for name in settings.methods}
    text = answer(few, whole["agreement"], whole["strata"], whole["curve"], fraction, titles, True)
    (folder / "metrics" / "answer.md").write_text(text)

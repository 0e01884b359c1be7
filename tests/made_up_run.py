"""A made-up run on disk: what the stages before `report` write, with heatmaps that need not be computed.

Where a network looks is drawn: of a field of the patch that all trained networks share, one of its recipe, one of the
training, and one that untrained networks share too.
"""

import shutil
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from pcam_agreement.agreement.overlaps import blur
from pcam_agreement.core.files import write_arrays, write_json
from pcam_agreement.core.patch import PATCH
from pcam_agreement.data.pcam import CONTENTS, Split, read_split, write_split
from pcam_agreement.heatmaps.file import merge_chunks, write_chunk
from pcam_agreement.heatmaps.masks import normalise
from pcam_agreement.networks.recipes import Network, networks
from pcam_agreement.pipeline import compare, compare_methods, report

SIDE = PATCH
NEVER = 2  # the row of a patch of which the first network's heatmap is constant, whatever the method
WEIGHTS = {"common": 1.0, "recipe": 0.7, "training": 1.0, "input": 0.7}  # of the fields
STOCHASTIC = ("lime", "kernel_shap")
CONTENT: dict[str, Any] = {  # what fetch leaves beside the data, in part
    "synthetic": True,
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


def write(
    folder: Path,
    raw: dict,
    patches: int = 25,
    slides: int = 6,
    masks: bool = True,
    silent: str | None = None,
    weights: Mapping[str, float] = WEIGHTS,
) -> None:
    """Patches, heatmaps, logits, agreement and all that `report` makes of them, where the stages would have written it.

    raw: the parameters; silent: the network (or `all` of them) whose heatmaps are constant; weights: of the fields.
    """
    explain(folder, raw, patches, slides, masks, silent, weights)
    compared(folder, raw)
    reported(folder)


def explain(
    folder: Path,
    raw: dict,
    patches: int = 25,
    slides: int = 6,
    masks: bool = True,
    silent: str | None = None,
    weights: Mapping[str, float] = WEIGHTS,
) -> None:
    """What the stages before `compare` write."""
    folder.mkdir(parents=True, exist_ok=True)
    YAML().dump(raw, folder / "params.yaml")
    data, chosen = folder / "data", networks(raw)
    split = _patches(data / "patches", patches, slides, masks)
    write_json(data / "patches" / CONTENTS, CONTENT)
    index = np.arange(1, patches)  # all but the first
    for number, method in enumerate(raw["methods"]):
        shared = [np.random.default_rng([number, key]).normal(size=(len(index), SIDE, SIDE)) for key in (0, 1)]
        for row, network in enumerate(chosen):
            zero = slice(None) if silent in (network.name, "all") else [NEVER] if row == 0 else []
            fields = _fields(network, shared, [number, row], [number, _number(network.recipe)], weights)
            path = network.path(data / "heatmaps" / method, ".h5")
            _heatmaps(path, method, index, fields, np.random.default_rng([number, row, 7]), zero)
    for row, network in enumerate(chosen):
        _logits(network, data, split, np.random.default_rng([row, 8]), 1.3 if network.trained else 0.0)
        _history(network.path(data / "history"))
    for method in raw["methods"]:
        _faithfulness(data / "faithfulness" / method, chosen, len(index), slides)


def compared(folder: Path, raw: dict) -> None:
    """What `compare` and `compare_methods` make of it."""
    files = {"params": folder / "params.yaml", "patches": folder / "data" / "patches"}
    heatmaps, agreement = folder / "data" / "heatmaps", folder / "data" / "agreement"
    for method in raw["methods"]:
        compare.main(Namespace(heatmaps=heatmaps / method, agreement=agreement / f"{method}.h5", **files))
    between = folder / "data" / "agreement_between_methods"
    compare_methods.main(Namespace(heatmaps=heatmaps, agreement=between, **files))


def reported(folder: Path) -> None:
    """What `report` makes of that."""
    for name in ("metrics", "plots"):
        shutil.rmtree(folder / name, ignore_errors=True)
    files = {"summary": folder / "metrics" / "summary.json", "answer": folder / "metrics" / "answer.md"}
    files |= {name: folder / name for name in ("data", "plots")}
    report.main(Namespace(params=folder / "params.yaml", **files))


def build(folder: Path) -> Path:
    """The page of the run in this folder."""
    from pcam_agreement.pipeline import atlas  # which tests of the report do not need

    files = {name: folder / name for name in ("data", "plots")}
    files |= {"summary": folder / "metrics" / "summary.json", "answer": folder / "metrics" / "answer.md"}
    atlas.main(Namespace(params=folder / "params.yaml", atlas=folder / "data" / "atlas", **files))
    return folder / "data" / "atlas" / "index.html"


def _number(recipe: str) -> int:
    return sum(map(ord, recipe))


def _fields(
    network: Network, shared: list[np.ndarray], own: list[int], recipe: list[int], weights: Mapping[str, float]
) -> np.ndarray:
    """The sum of the network's fields of each patch [n, h, w], before they are smoothed."""
    everyone, untrained = shared
    total = weights["input"] * untrained
    total += weights["training"] * np.random.default_rng([*own, 2]).normal(size=everyone.shape)
    if network.trained:
        total += weights["common"] * everyone
        total += weights["recipe"] * np.random.default_rng([*recipe, 3]).normal(size=everyone.shape)
    return total


def _heatmaps(
    path: Path, method: str, index: np.ndarray, fields: np.ndarray, random: np.random.Generator, zero: slice | list
) -> None:
    """Smoothed fields with a centre bias; where the method has superpixels, one value a square; some maps of zeros."""
    n, stochastic = len(index), method in STOCHASTIC
    repeat = n // 2 if stochastic else 0
    rows = np.append(np.arange(n), np.arange(repeat))
    noisy = fields[rows] + (0.6 * random.normal(size=(len(rows), SIDE, SIDE)) if stochastic else 0)
    away = (np.arange(SIDE) - SIDE / 2) ** 2 / 2000
    maps = np.exp(8 * blur(noisy.astype(np.float32), 4.0) - away[:, None] - away)
    diagnostics = {"convergence_delta": random.random(len(rows)).astype(np.float32)}
    if stochastic:
        maps = maps[:, 6::12, 6::12].repeat(12, 1).repeat(12, 2)
        diagnostics = {"r2": random.random(len(rows))}
    constant_rows = np.zeros(n, bool)
    constant_rows[zero] = True
    maps[constant_rows[rows]] = 0
    maps, constant = normalise(maps)
    flags = {"constant": constant, "nonfinite": np.zeros(len(rows), bool), "unconverged": rows % 5 == 4}
    chunk = {"index": index[rows], "heatmaps": maps.astype(np.float16), "logits": np.zeros(len(rows), np.float32)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_chunk(path.with_suffix(".npz"), chunk | flags | diagnostics)
    described = {"name": method, "title": method.upper(), "description": f"what {method} shows"}
    described |= {"stochastic": stochastic, "passes": {"forward": 0, "gradient": 1}}
    merge_chunks([path.with_suffix(".npz")], path, n, described, {})
    path.with_suffix(".npz").unlink()


def _slides(patches: int, count: int) -> np.ndarray:
    """The slide of each patch: two in a row are of one, unless there are as many slides."""
    return np.arange(patches) // (2 if count < patches else 1) % count


def _patches(folder: Path, count: int, slides: int, masks: bool) -> Split:
    random = np.random.default_rng(5)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    coarse = random.integers(60, 250, (count, SIDE // 4, SIDE // 4, 3)).repeat(4, 1).repeat(4, 2)
    tissue = (coarse + random.integers(0, 6, (count, SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
    labels = (np.arange(count) % 2).astype(np.uint8)
    outside = np.arange(count) % 6 == 0
    tumour = np.zeros((count, SIDE, SIDE), np.uint8)
    tumour[labels == 1, 30:70, 40:60] = 255
    tumour[outside, :20, 10:90] = 255
    columns = {"coord_y": 0, "coord_x": 0, "tumor_patch": (labels == 1) | outside, "center_tumor_patch": labels == 1}
    meta = pd.DataFrame({**columns, "wsi": [f"slide_{number}" for number in _slides(count, slides)]})
    write_split(folder, "test", [tissue], labels, meta, [tumour] if masks else None)
    return read_split(folder, "test")


def _logits(network: Network, data: Path, split: Split, random: np.random.Generator, skill: float) -> None:
    labels = {"valid": np.tile([0, 1], 20).astype(np.uint8), "test": np.asarray(split.labels)}
    arrays = {f"{name}_labels": values for name, values in labels.items()}
    for name, values in labels.items():
        noise = random.normal(0, 1, len(values))
        arrays[f"{name}_logits"] = ((2.0 * values - 1) * skill + noise).astype(np.float32)
    write_arrays(network.path(data / "logits", ".h5"), arrays)


def _history(folder: Path) -> None:
    for name in ("train/loss", "valid/auroc"):
        path = folder / "plots" / "metrics" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"step\t{name}\n0\t0.5\n1\t0.4\n")


def _faithfulness(folder: Path, chosen: Sequence[Network], patches: int, slides: int) -> None:
    """Areas of the first training of each recipe, which beats random places, and of its untrained network."""
    for recipe in dict.fromkeys(network.recipe for network in chosen):
        of_recipe = [network for network in chosen if network.recipe == recipe]
        tested = [next(n for n in of_recipe if n.trained), *[n for n in of_recipe if not n.trained][:1]]
        random = np.random.default_rng([_number(recipe), 9])
        arrays = {"change": np.full((len(tested), patches), 2.0)}
        for name in ("deletion", "insertion"):
            gain = np.array([[0.3], [0.0]])[: len(tested)]
            arrays[name] = 1 + gain + random.normal(0, 0.2, (len(tested), patches))
            arrays[f"{name}_pixels"] = 1 + random.normal(0, 0.2, (len(tested), patches))
            arrays[f"{name}_rolled"] = 1 + random.normal(0, 0.2, (len(tested), patches, 2))
        arrays |= {"slides": _slides(patches, slides), "networks": np.array([n.name for n in tested], "S")}
        arrays["index"] = np.arange(patches)
        write_arrays(folder / f"{recipe}.h5", arrays)

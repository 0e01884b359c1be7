"""What the atlas says of a run and of each of its patches, as JSON can hold it: pure, no files."""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from pcam_agreement import agreement, pcam, tables
from pcam_agreement.atlas import encoding
from pcam_agreement.params import Params

METHODS = {
    "saliency": "how much the score changes if the pixel changes a little",
    "input_x_gradient": "that change times the pixel's own value",
    "smoothgrad": "saliency, averaged over noisy copies of the patch",
    "integrated_gradients": "the pixel's share of the score, collected on the way from an empty patch to this one",
    "grad_cam": "where the network's last feature map speaks for the class",
    "occlusion": "how much the score changes if a window around the pixel is covered",
    "lime": "the pixel's superpixel's weight in a linear model of the score of patches with parts switched off",
    "kernel_shap": "the superpixel's Shapley value: its fair share of the score",
    "random": "a random map, which explains nothing",
    "centre": "a Gaussian in the middle, which explains nothing",
}


@dataclass(frozen=True)
class Explained:
    """What the run found on n explained patches of the test split, m networks and every method.

    heatmaps: float16 [m, n, 96, 96]; results: what `compare` wrote, of these patches; diagnostics: for every network
    the method's own, each [n]; all by method. logits: [m, n]; right: bool [m, n], at the threshold that valid chose.
    """

    index: np.ndarray
    patches: np.ndarray
    masks: np.ndarray | None
    meta: pd.DataFrame
    logits: np.ndarray
    right: np.ndarray
    heatmaps: dict[str, np.ndarray]
    results: dict[str, dict[str, np.ndarray]]
    diagnostics: dict[str, list[dict[str, np.ndarray]]]


def chosen(count: int, most: int) -> np.ndarray:
    """Rows of at most `most` of so many explained patches, evenly spaced: neighbours are often of one slide."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def run(
    settings: Params, explained: Explained, summary: dict, written: dict[str, pd.DataFrame], explained_patches: int
) -> dict:
    """The run as a whole: its numbers as `report` wrote them, and what is needed to list and to filter its patches.

    written: tables of plots/ as text, so that the page shows every number in the digits it has there.
    """
    networks = {name: settings.network[name] for name in settings.networks}
    pairs = written["agreement"]
    numeric = pairs.assign(iou=pd.to_numeric(pairs["iou"]))
    return {
        "networks": settings.networks,
        "order": tables.similar_order(numeric, settings.networks),
        "methods": {name: METHODS[name] for name in settings.methods},
        "pairs": list(combinations(settings.networks, 2)),
        "ceilings": [sorted({row for rows in own for row in rows}) for own in tables.ceilings(networks)],
        "fraction": settings.agreement.top_fraction,
        "ties": settings.agreement.ties,
        "steps": list(_steps(settings).items()),
        "masks": explained.masks is not None,
        "explained": explained_patches,
        "summary": summary,
        "tables": {name: table.to_dict("split", index=False) for name, table in written.items()},
        "patches": [_patch(settings, explained, row) for row in range(len(explained.patches))],
    }


def _steps(settings: Params) -> dict[float, int]:
    return encoding.steps([settings.agreement.top_fraction, *settings.agreement.curve], pcam.PATCH**2)


def _patch(settings: Params, explained: Explained, row: int) -> dict:
    """One patch in the list: where it is from, what the networks say of it, and by method how much they agree."""
    meta, of_methods = explained.meta.iloc[row], explained.results
    return {
        "key": key(explained, row),
        "index": int(explained.index[row]),
        "slide": str(meta["wsi"]),
        "label": int(next(iter(of_methods.values()))["labels"][row]),
        "outside": bool(meta["tumor_patch"] and not meta["center_tumor_patch"]),
        "logits": _numbers(explained.logits[:, row]),
        "right": explained.right[:, row].tolist(),
        "iou": {name: _numbers(of_methods[name]["iou"][:, row]) for name in settings.methods},
        "state": {name: _states(of_methods[name], row) for name in settings.methods},
    }


def key(explained: Explained, row: int) -> str:
    """What names a patch in all runs: its place in the split and its pixels."""
    digest = hashlib.sha256(np.ascontiguousarray(explained.patches[row]).tobytes()).hexdigest()
    return f"{explained.index[row]:05d}-{digest[:8]}"


def _states(results: dict[str, np.ndarray], row: int) -> list[str]:
    """What is wrong with each network's heatmap of this patch, the worst only; nothing as a rule."""
    names = ("nonfinite", "constant", "unconverged")
    return [
        next((name for name in names if results[name][network, row]), "") for network in range(len(results["constant"]))
    ]


def patch(settings: Params, explained: Explained, row: int) -> dict:
    """All heatmaps of one patch, coded (see `encoding`), and the methods' diagnostics.

    codes: uint8 [methods, networks, 96 * 96], and behind them the tumour mask where there is one, deflated, base64.
    """
    maps = np.concatenate([explained.heatmaps[name][:, row] for name in settings.methods])
    codes = encoding.encode(agreement.codes(maps).reshape(len(maps), -1), np.array(list(_steps(settings).values())))
    planes = [codes.tobytes()]
    if explained.masks is not None:
        planes.append((explained.masks[row] > 0).astype(np.uint8).tobytes())
    return {
        "codes": base64.b64encode(zlib.compress(b"".join(planes), 9)).decode(),
        "diagnostics": {
            name: [{known: _numbers(values[row]) for known, values in one.items()} for one in own]
            for name, own in explained.diagnostics.items()
        },
    }


def differences(here: dict, there: dict) -> list[tuple[str, str, str]]:
    """The settings in which two runs differ: their keys, joined by dots, and both values; – where one has none."""
    one, other = _flat(here), _flat(there)
    keys = [*one, *(key for key in other if key not in one)]
    return [(key, one.get(key, "–"), other.get(key, "–")) for key in keys if one.get(key) != other.get(key)]


def _flat(settings: dict, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def _numbers(values: np.ndarray) -> list | float | None:
    """As JSON can hold them, six digits; None where there is no number."""
    if np.ndim(values):
        return [_numbers(value) for value in values]
    return float(f"{values:.6g}") if np.isfinite(values) else None

"""The atlas's data of a run and of each of its patches, in types of JSON: pure, no files."""

import base64
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from pcam_agreement.agreement.pairs import shown_order
from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.atlas import encoding
from pcam_agreement.core.patch import PATCH
from pcam_agreement.networks.recipes import Network


@dataclass(frozen=True)
class Run:
    """What the page needs of a run: its networks, methods and settings of agreement.

    methods: by name, the `method` of their heatmap files (see heatmaps.file).
    """

    networks: Sequence[Network]
    methods: dict[str, dict[str, Any]]
    agreement: Agreement

    def sizes(self) -> dict[float, int]:
        """The top fractions that the page can show, with the pixels in a mask of each."""
        return encoding.steps([self.agreement.top_fraction, *self.agreement.fractions], PATCH**2)

    def averaged(self) -> dict[str, list[int]]:
        """The recipes of several trainings, with the places of these among the networks."""
        places: dict[str, list[int]] = {}
        for place, network in enumerate(self.networks):
            if network.trained:
                places.setdefault(network.recipe, []).append(place)
        return {recipe: of_recipe for recipe, of_recipe in places.items() if len(of_recipe) > 1}


@dataclass(frozen=True)
class Explained:
    """Results of the run on n explained patches of the test split, for m networks and every method.

    heatmaps: float16 [m, n, 96, 96]; results: what `compare` wrote, of these patches; diagnostics: the method's, of
    each network, each [n]; all by method. logits: [m, n]; thresholds: [m], chosen on valid.
    """

    index: np.ndarray
    patches: np.ndarray
    masks: np.ndarray | None
    meta: pd.DataFrame
    logits: np.ndarray
    thresholds: np.ndarray
    heatmaps: dict[str, np.ndarray]
    results: dict[str, dict[str, np.ndarray]]
    diagnostics: dict[str, list[dict[str, np.ndarray]]]


def shown_rows(count: int, most: int) -> np.ndarray:
    """Rows of at most `most` of `count` explained patches, evenly spaced: neighbours are often of the same slide."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def describe_run(
    run: Run,
    explained: Explained,
    summary: dict,
    written: dict[str, pd.DataFrame],
    explained_patches: int,
    synthetic: bool,
) -> dict:
    """The run as a whole: its numbers as `report` wrote them, and what lists and filters its patches.

    written: tables of plots/ as text, so that the page shows every number with the same digits; explained_patches:
    how many were explained, of which the page may show fewer; synthetic: whether the tissue is.
    """
    names = [network.name for network in run.networks]
    return {
        "networks": names,
        "of": [
            {"recipe": network.recipe, "training": network.training, "trained": network.trained}
            | {"architecture": network.architecture, "threshold": threshold}
            for network, threshold in zip(run.networks, explained.thresholds.tolist(), strict=True)
        ],
        "order": [network.name for network in shown_order(run.networks)],
        "averaged": list(run.averaged()),
        "methods": {
            name: {key: method[key] for key in ("title", "description")} for name, method in run.methods.items()
        },
        "pairs": list(combinations(names, 2)),
        "sigma": run.agreement.sigma,
        "fraction": run.agreement.top_fraction,
        "ties": run.agreement.ties,
        "steps": list(run.sizes().items()),
        "masks": explained.masks is not None,
        "explained": explained_patches,
        "synthetic": synthetic,
        "summary": summary,
        "tables": {name: table.to_dict("split", index=False) for name, table in written.items()},
        "patches": [_patch(run, explained, row) for row in range(len(explained.patches))],
    }


def _patch(run: Run, explained: Explained, row: int) -> dict:
    """A patch in the list: its origin, the networks' logits, and by method the IoU of every pair."""
    meta, results = explained.meta.iloc[row], explained.results
    label = int(next(iter(results.values()))["labels"][row])
    return {
        "key": key(explained, row),
        "index": int(explained.index[row]),
        "slide": str(meta["wsi"]),
        "label": label,
        "outside": bool(meta["tumor_patch"] and not meta["center_tumor_patch"]),
        "logits": _numbers(explained.logits[:, row]),
        "right": ((explained.logits[:, row] >= explained.thresholds) == label).tolist(),
        "iou": {name: _numbers(results[name]["iou"][:, row]) for name in run.methods},
        "state": {name: _states(results[name], row) for name in run.methods},
    }


def key(explained: Explained, row: int) -> str:
    """The name of a patch, the same in all runs: its index in the split and a hash of its pixels."""
    digest = hashlib.sha256(np.ascontiguousarray(explained.patches[row]).tobytes()).hexdigest()
    return f"{explained.index[row]:05d}-{digest[:8]}"


def _states(results: dict[str, np.ndarray], row: int) -> list[str]:
    """The worst defect of each network's heatmap of this patch; "" where it has none."""
    names = ("nonfinite", "constant", "unconverged")
    return [
        next((name for name in names if results[name][network, row]), "") for network in range(len(results["constant"]))
    ]


def describe_patch(run: Run, explained: Explained, row: int) -> dict:
    """All heatmaps of a patch, encoded (see `encoding`), and the methods' diagnostics.

    codes: uint8 [methods, networks and then recipes (their mean heatmaps), 96 * 96], then the tumour mask where there
    is one; deflated, base64.
    """
    maps = np.concatenate([_with_means(run, explained, name, row) for name in run.methods])
    encoded = encoding.encode(maps.reshape(len(maps), -1), np.array(list(run.sizes().values())))
    planes = [encoded.tobytes()]
    if explained.masks is not None:
        planes.append((explained.masks[row] > 0).astype(np.uint8).tobytes())
    return {
        "codes": base64.b64encode(zlib.compress(b"".join(planes), 9)).decode(),
        "diagnostics": {
            name: [{key: _numbers(values[row]) for key, values in network.items()} for network in networks]
            for name, networks in explained.diagnostics.items()
        },
    }


def _with_means(run: Run, explained: Explained, method: str, row: int) -> np.ndarray:
    """The heatmaps [m, 96, 96] of a patch, then the mean of the trainings of each recipe that has several.

    Constant heatmaps are left out of a mean; zeros where all are constant.
    """
    maps = explained.heatmaps[method][:, row].astype(np.float32)
    varies = np.ptp(maps, axis=(1, 2)) > 0  # False where it is not finite, too
    means = [
        maps[[place for place in places if varies[place]]].sum(0) / max(1, varies[places].sum())
        for places in run.averaged().values()
    ]
    return np.stack([*maps, *means])


def differences(here: dict, there: dict) -> list[tuple[str, str, str]]:
    """The settings in which two runs differ: their keys, joined by dots, and both values; – where there is none."""
    first, second = _flat(here), _flat(there)
    keys = [*first, *(key for key in second if key not in first)]
    return [(key, first.get(key, "–"), second.get(key, "–")) for key in keys if first.get(key) != second.get(key)]


def _flat(settings: dict, prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return flat


def _numbers(values: np.ndarray) -> list | float | None:
    """Numbers for JSON, six digits; None where they are not finite."""
    if np.ndim(values):
        return [_numbers(value) for value in values]
    return float(f"{values:.6g}") if np.isfinite(values) else None

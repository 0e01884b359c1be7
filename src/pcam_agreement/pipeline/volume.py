"""How many bytes a run's files take, and what its comparisons cost: closed forms, and a few made-up heatmaps."""

import csv
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pcam_agreement.agreement.compare import BLOCK, compare
from pcam_agreement.agreement.sets import overlaps_of_sets, views
from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.atlas.settings import Atlas
from pcam_agreement.attribution.common.settings import Explanation, Superpixels
from pcam_agreement.attribution.common.superpixels import superpixels_of_all
from pcam_agreement.core.patch import PATCH
from pcam_agreement.core.settings import section
from pcam_agreement.data.pcam import SPLITS
from pcam_agreement.data.sources import pcam
from pcam_agreement.heatmaps.file import Heatmaps, merge_chunks, open_heatmaps, write_chunk
from pcam_agreement.heatmaps.levels import LEVELS
from pcam_agreement.networks.recipes import networks
from pcam_agreement.training.settings import Recipe

WORK = "unfinished work"
PIXELS = PATCH**2
KAGGLE = 220_025  # all patches of Kaggle's
GROUPS, ATLAS = 100, 5_000  # of slides at most, of each label; bytes of a heatmap in the atlas
FEW, SETS = 12, 8  # patches of made-up heatmaps, and sets of them


def patches(raw: Mapping[str, Any]) -> dict[str, int]:
    """How many patches each split has.

    Raises ValueError where the folder of patches that the parameters name is not there.
    """
    source = section(raw, "data.source", str)
    block = section(raw, f"data.{source}", dict)
    if source in ("synthetic", "planted"):
        return {name: block["slides"][name] * block["patches_per_slide"] for name in SPLITS}
    if source == "pcam":
        return {"train": 262_144, "valid": 32_768, "test": 32_768}
    if source == "kaggle":
        if block["ids"] is None:
            return {name: round(KAGGLE * block["fractions"][name]) for name in SPLITS}
        with open(block["ids"], newline="") as file:
            return dict(Counter(row["split"] for row in csv.DictReader(file)))
    folder = Path(block["path"] or "")
    if not block["path"] or not folder.is_dir():
        raise ValueError(f"data.{source}.path: expected a folder of patches, found {block['path']!r}; give its path.")
    count = {name: _files(folder / name) for name in SPLITS if (folder / name).is_dir()}
    return count or {name: round(_files(folder) * block["fractions"][name]) for name in SPLITS}


def disk(
    raw: Mapping[str, Any],
    rates: Mapping[str, Any],
    recipes: Mapping[str, Recipe],
    methods: Mapping[str, tuple[ModuleType, Any]],
    workers: int,
) -> dict[str, tuple[float, str]]:
    """Bytes by kind of file, and what they are of. rates: of each recipe that is counted."""
    counts, explanation = patches(raw), section(raw, "explain", Explanation)
    source, run = raw["data"]["source"], [network for network in networks(raw) if network.recipe in rates]
    n, total = min(explanation.patches, counts["test"]), sum(counts.values())
    drawn = source in ("synthetic", "planted")
    files = {
        name: heatmap_bytes(n, min(explanation.repeat, n) if module.STOCHASTIC else 0, explanation.storage)
        for name, (module, _) in methods.items()
    }
    checkpoints = [
        rates[network.recipe].head
        if network.trained
        and (recipe := recipes[network.recipe]).freeze
        and not recipe.unfreeze
        and recipe.weights != "none"
        else rates[network.recipe].checkpoint
        for network in run
    ]
    agreement = section(raw, "agreement", Agreement)
    groups = min(GROUPS, raw["data"][source]["slides"]["test"]) if drawn else GROUPS
    compared = len(methods) * compare_bytes(len(run), n, agreement, drawn, groups)
    compared += len(run) * pair_bytes(len(methods), n, agreement)
    most_map = max((size if explanation.storage == "float16" else 2 * size for size in files.values()), default=0)
    most_training = max((24 * rates[name].parameters for name in rates), default=0)  # Lightning's best and last
    superpixels = 2 * PIXELS * n * any(isinstance(settings, Superpixels) for _, settings in methods.values())
    result = {
        "patches": (total * PIXELS * (4 if drawn else 3), f"{total:,}{', with masks' if drawn else ''}"),
        "checkpoints": (sum(checkpoints), f"{len(run)} networks"),
        "heatmaps": (len(run) * sum(files.values()), f"{len(run)} x {len(methods)} files, {explanation.storage}"),
        "agreement": (compared, f"{len(run) * (len(run) - 1) // 2:,} pairs of networks"),
        "atlas": (min(section(raw, "atlas", Atlas).patches, n) * len(run) * len(methods) * ATLAS, "about"),
        WORK: (workers * max(most_map, most_training) + superpixels, "while it runs"),
    }
    if source == "pcam":
        archives = sum(file.archive_bytes or 0 for file in pcam.PUBLISHED.values())
        result["downloads"] = (archives, f"stay in {raw['data']['pcam']['directory']}")
    features = [recipes[name] for name in rates if recipes[name].features_once]
    if features:
        size = sum(total * rates[name].head for name in rates if recipes[name].features_once)
        result["features"] = (size, f"{len(features)} recipes, 4 bytes a number")
    return result


def heatmap_bytes(n: int, repeated: int, storage: str) -> int:
    """Of a heatmap file of n patches: the maps; what else is in it is of a number or so a patch."""
    return (n + repeated) * (2 * PIXELS if storage == "float16" else PIXELS + 2 * LEVELS)


def pair_bytes(m: int, n: int, settings: Agreement) -> int:
    """Of the measures of all pairs of m sets on n patches: five, the null, and the IoU at each top fraction."""
    return 4 * n * m * (m - 1) // 2 * (6 + len(settings.fractions))


def compare_bytes(m: int, n: int, settings: Agreement, masks: bool, groups: int) -> int:
    """Of what compare writes of m networks on n patches: pairs, networks, and overlaps by cell and view."""
    regions = 1 + masks
    of_networks = 4 * n * (m * 5 + regions * (3 * (m + 2) + 1)) + n * m * 11  # float32; repeat_iou and flags
    cells = 2 * min(groups, n)
    overlaps = 8 * len(views(settings)) * m * (m + 1) // 2 * (3 * cells + 2)
    return pair_bytes(m, n, settings) + of_networks + overlaps


def superpixel_seconds(chosen: Sequence[Superpixels], n: int) -> float:
    """Seconds of the superpixels of n patches, each kind once, on all cores."""
    random, spent = np.random.default_rng(0).random((2 * (os.cpu_count() or 1), PATCH, PATCH, 3), np.float32), 0.0
    for kind, segments in {(each.superpixels, each.segments) for each in chosen}:
        start = time.perf_counter()
        superpixels_of_all(random, kind, segments)
        spent += (time.perf_counter() - start) / len(random) * n
    return spent


def compare_seconds(raw: Mapping[str, Any], networks: int, n: int) -> float:
    """Seconds of all comparisons of n patches, on all cores, from those of a few heatmaps of noise."""
    settings, methods = section(raw, "agreement", Agreement), section(raw, "methods", list[str])
    labels, slides = np.arange(FEW) % 2, np.arange(FEW)
    with tempfile.TemporaryDirectory() as name:
        sets = {str(number): _noise(Path(name, f"{number}.h5"), number) for number in range(SETS)}
        two = dict(list(sets.items())[:2])
        compare(two, labels, slides, settings)  # what is done once only

        def spent(chosen: Mapping[str, Heatmaps]) -> np.ndarray:
            """Seconds a patch, on one core: of compare, and of overlaps."""
            start = time.perf_counter()
            compare(chosen, labels, slides, settings)
            half = time.perf_counter()
            overlaps_of_sets(list(chosen.values()), labels, slides, views(settings))
            return np.array([half - start, time.perf_counter() - half]) / FEW

        of_two, of_sets = spent(two), spent(sets)
    within, between = (of_more(m, of_two, of_sets) for m in (networks, len(methods)))
    cores = min(os.cpu_count() or 1, -(-n // BLOCK))  # a block is one thread's
    return float(n / cores * (len(methods) * within.sum() + networks * between[0]))


def of_more(m: int, of_two: np.ndarray, of_sets: np.ndarray) -> np.ndarray:
    """What m sets take, from what two and what SETS take: so much a set and so much a pair of sets."""
    of_pair = np.maximum(2 * of_sets - SETS * of_two, 0) / (SETS * (SETS - 2))
    return m * (of_two - of_pair) / 2 + m * (m - 1) / 2 * of_pair


def _noise(path: Path, seed: int) -> Heatmaps:
    """A heatmap file of a few patches."""
    maps = np.random.default_rng(seed).exponential(size=(FEW, PATCH, PATCH)).astype(np.float16)
    chunk = path.with_suffix(".npz")
    write_chunk(chunk, {"index": np.arange(FEW), "heatmaps": maps, "constant": np.zeros(FEW, bool)})
    merge_chunks([chunk], path, FEW, {}, {})
    return open_heatmaps(path)


def cache_folder() -> Path:
    """DVC's cache of this repository."""
    from dvc.repo import Repo

    with Repo() as repo:
        return Path(repo.cache.local.path)


def linked() -> bool:
    """Whether DVC's cache and the workspace share bytes: on one disk that has hard links."""
    cache = existing_parent(cache_folder())
    try:
        with tempfile.NamedTemporaryFile(dir=".") as file:
            link = cache / f"{Path(file.name).name}.link"
            os.link(file.name, link)
            link.unlink()
        return True
    except OSError:
        return False


def existing_parent(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.resolve()
    return path if path.exists() else existing_parent(path.parent)


def _files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))

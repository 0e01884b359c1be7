"""A method over patches -> heatmaps, chunk by chunk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from tqdm import tqdm

from pcam_agreement import networks, store
from pcam_agreement.attribution import DRAWN, METHODS, superpixels
from pcam_agreement.attribution.batches import Batch, fastest
from pcam_agreement.attribution.gradient import gradient
from pcam_agreement.attribution.score import make_score
from pcam_agreement.heatmap import normalise, reduce
from pcam_agreement.inference import to_device
from pcam_agreement.params import Explanation, Method, Surrogate
from pcam_agreement.pcam import PATCH
from pcam_agreement.processes import Process

GAIN = 1.2  # less precision must be this much faster to be taken where the precision is `auto`


def explain(
    network: nn.Module,
    patches: np.ndarray,
    index: np.ndarray,
    method: str,
    settings: Method,
    explanation: Explanation,
    seed: int,
    process: Process,
    batch: Batch,
    folder: Path,
    shared: Path,
) -> list[Path]:
    """Explain the patches of this index and leave the heatmaps in `folder`, one file a chunk.

    Behind them come the first `explanation.repeat` patches again with other draws, where the method has any. Of several
    processes each takes its share of the chunks. A chunk that is there already is not computed again, so that a killed
    run goes on where it stopped. Superpixels are kept in the folder `shared` for all networks; while the network is
    busy with one chunk, those of the next are made. Memory does not grow with the number of patches. Returns the files
    of all processes, in order; `store.merge_chunks` says what is in them.
    """
    again = index[: explanation.repeat if method in DRAWN else 0]
    rows = list(zip([*index, *again], [0] * len(index) + [1] * len(again), strict=True))  # patches and their draws
    chunks = [rows[start : start + explanation.chunk] for start in range(0, len(rows), explanation.chunk)]
    paths = [folder / f"chunk-{number:05d}.npz" for number in range(len(chunks))]
    todo = list(zip(paths, chunks, strict=True))[process.rank :: process.count]
    todo = [(path, chunk) for path, chunk in todo if not path.exists()]

    def segment(number: int) -> np.ndarray | None:
        if number == len(todo) or not isinstance(settings, Surrogate):
            return None
        return _superpixels(patches[[patch for patch, _ in todo[number][1]]], settings, shared)

    quiet = None if process.rank == 0 else True
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(segment, 0)
        for number, (path, chunk) in enumerate(tqdm(todo, desc=method, unit="chunk", disable=quiet)):
            labels, coming = coming.result(), ahead.submit(segment, number + 1)
            chosen = np.array([patch for patch, _ in chunk])
            on_device = to_device(patches[chosen], process.device)
            seeds = [patch_seed(seed, int(patch), draw) for patch, draw in chunk]
            found = explain_patches(network, on_device, seeds, method, settings, explanation, batch, labels)
            store.write_chunk(path, {"index": chosen, **found})
    return paths


def _superpixels(patches: np.ndarray, settings: Surrogate, shared: Path) -> np.ndarray:
    """The superpixels [n, 96, 96] of patches uint8 [n, 96, 96, 3]; from the folder where they are there."""
    code = Path(superpixels.__file__).read_bytes() + version("scikit-image").encode()
    name = hashlib.sha256(code + patches.tobytes()).hexdigest()[:16]
    path = shared / f"{settings.superpixels}-{settings.segments}-{name}.npz"
    if not path.exists():
        pixels = patches.astype(np.float32) / 255
        labels = superpixels.superpixels_of_all(pixels, settings.superpixels, settings.segments)
        own = path.with_suffix(f".{os.getpid()}")  # explain may run for several networks at once
        store.write_chunk(own, {"labels": labels})
        own.replace(path)
    with np.load(path, allow_pickle=False) as file:
        return file["labels"]


def explain_patches(
    network: nn.Module,
    patches: Tensor,
    seeds: Sequence[int],
    method: str,
    settings: Method,
    explanation: Explanation,
    batch: Batch,
    labels: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """What one method says of patches on the device, each [n]: see `store.merge_chunks`."""
    found = patches.new_zeros(len(patches))
    plain = make_score(network, found, "tumour", "logit")

    def look(rows: Tensor) -> None:
        with torch.no_grad():
            found[rows] = plain(patches[rows], rows)

    batch.each(len(patches), patches.device, look)
    score = make_score(network, found, explanation.target, explanation.output)
    known = {} if labels is None else {"labels": labels}
    attribution, diagnostics = METHODS[method](score, patches, seeds, settings, batch, **known)
    finite = torch.isfinite(found) & torch.isfinite(attribution).flatten(1).all(1)
    attribution[~finite] = 0  # a map of zeros, which counts as one that says nothing
    heatmaps, constant = normalise(reduce(attribution.cpu().numpy(), settings.reduce))
    return {
        "heatmaps": heatmaps.astype(np.float16),
        "logits": found.cpu().numpy(),
        "constant": constant,
        "nonfinite": ~finite.cpu().numpy(),
        **{name: values.cpu().numpy() for name, values in diagnostics.items()},
    }


def fastest_setting(
    checkpoint: Path, method: str, explanation: Explanation, device: torch.device, memory: Path
) -> tuple[str, int]:
    """The precision and the batch size to explain with: as set, or where `auto`, the fastest on this device.

    Measured once and remembered in the file `memory`. bf16 has to be GAIN times as fast as 32 to be taken.
    """
    precisions = ["32", "bf16"] if explanation.precision == "auto" else [explanation.precision]
    if len(precisions) == 1 and explanation.batch_size != "auto":
        return precisions[0], explanation.batch_size
    kind = "forward" if method in ("occlusion", "lime", "kernel_shap") else "gradient"
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu with {torch.get_num_threads()} threads"
    )
    memory.parent.mkdir(parents=True, exist_ok=True)
    measured = {}
    with FileLock(memory.with_suffix(".lock")):  # another network may be explained beside this one
        known = store.read_json(memory) if memory.exists() else {}
        for precision in precisions:
            network = networks.load(checkpoint, device, precision)
            key = f"{name}, {network.architecture}, {network.size} pixels, {kind}, precision {precision}"
            if key not in known:
                patch = torch.rand(1, 3, PATCH, PATCH, generator=torch.Generator().manual_seed(0)).to(device)
                score = make_score(network, torch.zeros(1, device=device), "tumour", "logit")
                compute = score if kind == "forward" else partial(gradient, score)

                def work(size: int, patch: Tensor = patch, compute: Callable[..., Tensor] = compute) -> None:
                    with torch.no_grad():
                        compute(patch.expand(size, -1, -1, -1), torch.zeros(size, dtype=torch.int64, device=device))

                size, rate = fastest(work)
                known[key] = {"batch_size": size, "patches_per_second": round(rate, 1)}
                store.write_json(memory, known)
            measured[precision] = known[key]
    best = precisions[-1]
    if measured[best]["patches_per_second"] < GAIN * measured[precisions[0]]["patches_per_second"]:
        best = precisions[0]
    return best, measured[best]["batch_size"] if explanation.batch_size == "auto" else explanation.batch_size


def patch_seed(seed: int, patch: int, draw: int = 0) -> int:
    """A patch's own seed, the same in whatever chunk, run or network it is explained; of another draw, another."""
    return int(np.random.SeedSequence((seed, patch, draw)).generate_state(1, np.uint64)[0])

"""A method over patches -> heatmaps, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from pcam_agreement import networks, store
from pcam_agreement.attribution import METHODS
from pcam_agreement.attribution.batches import Batch, fastest
from pcam_agreement.attribution.gradient import gradient
from pcam_agreement.attribution.score import make_score
from pcam_agreement.heatmap import normalise, reduce
from pcam_agreement.inference import to_device
from pcam_agreement.params import Explanation, Method
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
) -> list[Path]:
    """Explain the patches of this index and leave the heatmaps in `folder`, one file a chunk.

    Of several processes each takes its share of the chunks. A chunk that is there already is not computed again, so
    that a killed run goes on where it stopped. Memory does not grow with the number of patches. Returns the files of
    all processes, in the order of the index; `store.merge_chunks` says what is in them.
    """
    starts = range(0, len(index), explanation.chunk)
    paths = [folder / f"chunk-{number:05d}.npz" for number in range(len(starts))]
    mine = list(zip(paths, starts, strict=True))[process.rank :: process.count]
    for path, start in tqdm(mine, desc=method, unit="chunk", disable=None if process.rank == 0 else True):
        if path.exists():
            continue
        chosen = index[start : start + explanation.chunk]
        on_device = to_device(patches[chosen], process.device)
        seeds = [patch_seed(seed, int(patch)) for patch in chosen]
        found = explain_patches(network, on_device, seeds, method, settings, explanation, batch)
        store.write_chunk(path, {"index": chosen, **found})
    return paths


def explain_patches(
    network: nn.Module,
    patches: Tensor,
    seeds: Sequence[int],
    method: str,
    settings: Method,
    explanation: Explanation,
    batch: Batch,
) -> dict[str, np.ndarray]:
    """What one method says of patches on the device, each [n]: see `store.merge_chunks`."""
    found = patches.new_zeros(len(patches))
    plain = make_score(network, found, "tumour", "logit")

    def look(rows: Tensor) -> None:
        with torch.no_grad():
            found[rows] = plain(patches[rows], rows)

    batch.each(len(patches), patches.device, look)
    score = make_score(network, found, explanation.target, explanation.output)
    attribution, diagnostics = METHODS[method](score, patches, seeds, settings, batch)
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
    known = store.read_json(memory) if memory.exists() else {}
    measured = {}
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


def patch_seed(seed: int, patch: int) -> int:
    """A patch's own seed: the same in whatever chunk, run or network the patch is explained."""
    return int(np.random.SeedSequence((seed, patch)).generate_state(1, np.uint64)[0])

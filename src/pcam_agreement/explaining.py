"""A method over patches -> heatmaps, chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from pcam_agreement import store
from pcam_agreement.attribution import METHODS
from pcam_agreement.attribution.score import make_score
from pcam_agreement.heatmap import normalise, reduce
from pcam_agreement.inference import to_device
from pcam_agreement.params import Explanation, Method


def explain(
    network: nn.Module,
    patches: np.ndarray,
    index: np.ndarray,
    method: str,
    settings: Method,
    explanation: Explanation,
    seed: int,
    device: torch.device,
    folder: Path,
) -> list[Path]:
    """Explain the patches of this index and leave the heatmaps in `folder`, one file a chunk.

    A chunk that is there already is not computed again, so that a killed run goes on where it stopped. Memory does not
    grow with the number of patches. Returns the files, in the order of the index; `store.merge_chunks` says what is
    in them.
    """
    paths = []
    starts = range(0, len(index), explanation.chunk)
    for number, start in enumerate(tqdm(starts, desc=method, unit="chunk", disable=None)):
        paths.append(folder / f"chunk-{number:05d}.npz")
        if paths[-1].exists():
            continue
        chosen = index[start : start + explanation.chunk]
        batch = to_device(patches[chosen], device)
        seeds = [patch_seed(seed, int(patch)) for patch in chosen]
        store.write_chunk(
            paths[-1], {"index": chosen, **explain_patches(network, batch, seeds, method, settings, explanation)}
        )
    return paths


def explain_patches(
    network: nn.Module,
    patches: Tensor,
    seeds: Sequence[int],
    method: str,
    settings: Method,
    explanation: Explanation,
) -> dict[str, np.ndarray]:
    """Heatmaps float16 [n, 96, 96], logits, constant and the method's diagnostics [n] of patches on the device."""
    with torch.no_grad():
        found = torch.cat([network(part) for part in patches.split(explanation.batch_size)])
    score = make_score(network, found, explanation.target, explanation.output)
    attribution, diagnostics = METHODS[method](score, patches, seeds, settings, explanation.batch_size)
    heatmaps, constant = normalise(reduce(attribution.cpu().numpy(), settings.reduce))
    return {
        "heatmaps": heatmaps.astype(np.float16),
        "logits": found.cpu().numpy(),
        "constant": constant,
        **{name: values.cpu().numpy() for name, values in diagnostics.items()},
    }


def patch_seed(seed: int, patch: int) -> int:
    """A patch's own seed: the same in whatever chunk, run or network the patch is explained."""
    return int(np.random.SeedSequence((seed, patch)).generate_state(1, np.uint64)[0])

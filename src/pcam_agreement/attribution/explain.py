"""A method over patches -> heatmaps, chunk by chunk.

A method is a file of attribution/methods. It has a TITLE, a DESCRIPTION (a clause), whether it is STOCHASTIC, a class
Settings (its block in params.yaml), `passes(settings)`, and `attribute(score, patches, seeds, settings, batch)`:

- score(inputs [b, 3, 96, 96], rows [b]) -> [b], the explained score of inputs that were made from these rows;
- patches: float32 [n, 3, 96, 96] in [0, 1], on the network's device;
- seeds: one integer a patch, so that perturbation samples do not depend on batches;
- batch: how many inputs go through the network at once;

which returns a signed attribution [n, c, 96, 96] and diagnostics, each [n]. A method whose Settings are a
`Superpixels` also takes `superpixels`, labels [n, 96, 96]. One that cannot explain every network also has
`check_network(network)`, which raises ValueError for those that it cannot, before anything runs.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.attribution.common.settings import Explanation, Method, Superpixels
from pcam_agreement.attribution.common.superpixels import kept_superpixels, superpixels_of_all
from pcam_agreement.core import plugins
from pcam_agreement.core.seeds import seed_of
from pcam_agreement.core.settings import section
from pcam_agreement.heatmaps.file import write_chunk
from pcam_agreement.heatmaps.masks import normalise, reduce
from pcam_agreement.inference.batch import Batch
from pcam_agreement.inference.processes import Process
from pcam_agreement.networks.logits import to_device


@dataclass(frozen=True)
class Explainer:
    """A method with its settings, on one network."""

    network: nn.Module
    method: ModuleType  # of attribution/methods
    settings: Method
    explanation: Explanation
    batch: Batch

    def explain(
        self, patches: np.ndarray, index: np.ndarray, seed: int, process: Process, folder: Path, shared: Path
    ) -> list[Path]:
        """Explain the patches of this index and leave the heatmaps in `folder`, one file a chunk.

        seed: another one for every network, so that the perturbation samples of two of them are independent: shared
        ones would make the noise of a method look like agreement.
        Behind them come the first `explanation.repeat` patches again with other perturbation samples, if the method is
        stochastic. Of several processes each takes its share of the chunks. A chunk that is there already is not
        computed again, so that a killed run goes on where it stopped. Superpixels are kept in the folder `shared` for
        all networks; while the network is busy with one chunk, those of the next are made. Memory does not grow with
        the number of patches. Returns the files of all processes, in order; `heatmaps.file.merge_chunks` says what is
        in them.
        """
        repeated = index[: self.explanation.repeat if self.method.STOCHASTIC else 0]
        rows = [(int(patch), 0) for patch in index] + [(int(patch), 1) for patch in repeated]  # patch, its repeat
        size = self.explanation.chunk
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        paths = [folder / f"chunk-{number:05d}.npz" for number in range(len(chunks))]
        todo = list(zip(paths, chunks, strict=True))[process.rank :: process.count]
        todo = [(path, chunk) for path, chunk in todo if not path.exists()]

        def segment(number: int) -> np.ndarray | None:
            if number == len(todo) or not isinstance(self.settings, Superpixels):
                return None
            chunk = patches[[patch for patch, _ in todo[number][1]]]
            return kept_superpixels(chunk, self.settings.superpixels, self.settings.segments, shared)

        quiet = None if process.rank == 0 else True
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(segment, 0)
            for number, (path, chunk) in enumerate(tqdm(todo, self.method.TITLE, unit="chunk", disable=quiet)):
                superpixels, coming = coming.result(), ahead.submit(segment, number + 1)
                chosen = np.array([patch for patch, _ in chunk])
                seeds = [seed_of(seed, patch, repeat) for patch, repeat in chunk]
                arrays = self.heatmaps(to_device(patches[chosen], process.device), seeds, superpixels)
                write_chunk(path, {"index": chosen, **arrays})
        return paths

    def heatmaps(
        self, patches: Tensor, seeds: Sequence[int], superpixels: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Heatmaps, logits, flags and diagnostics of patches on the device: see `heatmaps.file.merge_chunks`."""
        logits = patches.new_zeros(len(patches))
        tumour = make_score(self.network, logits, "tumour", "logit")

        def predict(rows: Tensor) -> None:
            with torch.no_grad():
                logits[rows] = tumour(patches[rows], rows)

        self.batch.each(len(patches), patches.device, predict)
        score = make_score(self.network, logits, self.explanation.target, self.explanation.output)
        options: dict[str, Any] = {}
        if isinstance(self.settings, Superpixels):
            if superpixels is None:
                pixels = patches.permute(0, 2, 3, 1).cpu().numpy()
                superpixels = superpixels_of_all(pixels, self.settings.superpixels, self.settings.segments)
            options["superpixels"] = superpixels
        attribution, diagnostics = self.method.attribute(score, patches, seeds, self.settings, self.batch, **options)
        _check_shapes(self.method.TITLE, patches, attribution, diagnostics)
        finite = torch.isfinite(logits) & torch.isfinite(attribution).flatten(1).all(1)
        attribution[~finite] = 0  # a map of zeros, which counts as constant
        maps, constant = normalise(reduce(attribution.cpu().numpy(), self.settings.reduce))
        return {
            "heatmaps": maps.astype(np.float16),
            "logits": logits.cpu().numpy(),
            "constant": constant,
            "nonfinite": ~finite.cpu().numpy(),
            **{name: values.cpu().numpy() for name, values in diagnostics.items()},
        }


def _check_shapes(title: str, patches: Tensor, attribution: Tensor, diagnostics: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless a method's attribution is [n, c, 96, 96] and each of its diagnostics [n].

    Without this, channels last would become heatmaps of 96 x 3 pixels without a word.
    """
    n, _, height, width = patches.shape
    if attribution.ndim != 4 or (len(attribution), *attribution.shape[2:]) != (n, height, width):
        raise ValueError(
            f"{title}: expected an attribution of shape [{n}, channels, {height}, {width}], found "
            f"{list(attribution.shape)}; change what `attribute` returns in the method's file."
        )
    for name, values in diagnostics.items():
        if values.shape != (n,):
            raise ValueError(
                f"{title}: expected the diagnostic {name} with one number for each patch, shape [{n}], found "
                f"{list(values.shape)}; change what `attribute` returns in the method's file."
            )


def explain(
    network: nn.Module, patches: np.ndarray, method: str, params: Mapping[str, Any], seed: int = 0
) -> dict[str, np.ndarray]:
    """Explain patches uint8 [n, 96, 96, 3] by a method: `heatmaps` float16 [n, 96, 96], `logits`, flags, diagnostics.

    For use from Python. network: of `inference.load.load_classifier`; params: of `core.settings.read_params`, whose
    sections `explain` and `method` are used; seed: of the perturbation samples. All patches are in memory at once.
    `heatmaps.file.merge_chunks` says what each array is.

    Raises ValueError where there is no such method or its settings are wrong, and where it cannot explain the network.
    """
    module = plugins.load(plugins.METHODS, "method", method)
    settings = section(dict(params), f"method.{method}", module.Settings)
    explanation = section(dict(params), "explain", Explanation)
    explainer = Explainer(network, module, settings, explanation, Batch(explanation.batch_size))
    device = next(network.parameters()).device
    return explainer.heatmaps(to_device(patches, device), [seed_of(seed, row) for row in range(len(patches))])


def describe(name: str, method: ModuleType, settings: Method) -> dict[str, Any]:
    """What a heatmap file says of its method, so that no later stage needs the method's code."""
    passes = method.passes(settings)
    return {
        "name": name,
        "title": method.TITLE,
        "description": method.DESCRIPTION,
        "stochastic": method.STOCHASTIC,
        "passes": {"forward": passes.forward, "gradient": passes.gradient},
    }

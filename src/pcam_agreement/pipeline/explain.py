"""Explain one network by one method: the same test patches for all networks and methods -> heatmaps.

python -m pcam_agreement.pipeline.explain lime test_resnet 1 --patches data/patches --checkpoint … --heatmaps …
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np

from pcam_agreement.attribution.common.settings import Explanation
from pcam_agreement.core import command, plugins, resume
from pcam_agreement.core.files import existing, sha256, write_placeholder
from pcam_agreement.core.seeds import seed_of
from pcam_agreement.core.settings import Device, Seed, read_params, section
from pcam_agreement.data.pcam import CONTENTS, read_split, stratified_sample
from pcam_agreement.heatmaps.file import merge_chunks, open_heatmaps
from pcam_agreement.networks.recipes import Network, find


def main(args: Namespace) -> None:
    raw = read_params(args.params)
    network = find(raw, args.recipe, args.training)
    if network is None:
        write_placeholder(args.heatmaps)
    else:
        _explain(args, raw, network)


def _explain(args: Namespace, raw: dict[str, Any], network: Network) -> None:
    from pcam_agreement.attribution.explain import Explainer, describe  # with torch, which takes seconds
    from pcam_agreement.inference import processes
    from pcam_agreement.inference.batch import Batch
    from pcam_agreement.inference.load import load_classifier
    from pcam_agreement.networks.device import choose_device

    method = plugins.load(plugins.METHODS, "method", args.method)
    seeds = {name: section(raw, f"seeds.{name}", Seed) for name in ("explained_patches", "perturbation")}
    explanation = section(raw, "explain", Explanation)
    settings = section(raw, f"method.{args.method}", method.Settings)
    device = choose_device(section(raw, "device", Device), explanation.devices)
    process = processes.join(device, explanation.devices, explanation.nodes)
    split = read_split(args.patches, "test")
    if explanation.sample == "first":
        index = np.arange(min(explanation.patches, len(split.labels)))
    else:
        index = stratified_sample(split.labels, explanation.patches, seeds["explained_patches"])
    # How the work is divided is not in the result: one process and several give the same bytes. Nor how it is stored.
    stated = {
        "seeds": seeds,
        **settings.model_dump(),
        **explanation.model_dump(exclude={"chunk", "devices", "nodes", "storage"}),
    }
    work = resume.folder(
        f"explain-{args.method}-{network.name}",
        repr(sorted(stated.items())),
        str(explanation.chunk),
        device.type,
        sha256(existing(args.checkpoint)),
        (args.patches / CONTENTS).read_text(),
    )
    classifier = load_classifier(args.checkpoint, process.device, explanation.precision)
    explainer = Explainer(classifier, method, settings, explanation, Batch(explanation.batch_size))
    seed = seed_of(seeds["perturbation"], network.name)
    chunks = explainer.explain(split.patches, index, seed, process, work, resume.place() / "superpixels")
    process.wait()
    if process.rank == 0:
        described, quantised = describe(args.method, method, settings), explanation.storage == "uint8"
        merge_chunks(chunks, args.heatmaps, len(index), described, stated, quantised=quantised)
        nonfinite = index[open_heatmaps(args.heatmaps).arrays["nonfinite"]]
        _warn_of_nonfinite(args.method, network.name, nonfinite, len(index))
        resume.remove(work)


def _warn_of_nonfinite(method: str, network: str, patches: np.ndarray, count: int) -> None:
    if len(patches):
        few = ", ".join(map(str, patches[:5])) + (" …" if len(patches) > 5 else "")
        print(
            f"WARNING: {method} of {network} is not finite on {len(patches)} of {count} patches "
            f"(test {few}); they are counted, and left out of every mean.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("method", help="a file of attribution/methods and a key of `method` in the parameters")
    parser.add_argument("recipe", help="a key of `network` in the parameters")
    parser.add_argument("training", help="one of `trainings` in the parameters: a seed, or untrained")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--checkpoint", type=Path, required=True, help="safetensors file that train wrote")
    parser.add_argument("--heatmaps", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)

"""Explain one network by one method: the same test patches for all -> heatmaps."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from shutil import rmtree

import numpy as np
import torch

from pcam_agreement import command, explaining, names, networks, params, pcam, processes, resume, store
from pcam_agreement.attribution.batches import Batch


def main(args: Namespace) -> None:
    settings = params.load(args.params)
    explanation, method = settings.explain, names.named("method", args.method, dict(settings.method))
    device = networks.device(settings.device, explanation.devices)
    torch.use_deterministic_algorithms(True, warn_only=True)
    process = processes.join(device, explanation.devices, explanation.nodes)
    split = pcam.read(args.patches, "test")
    if explanation.draw == "first":
        index = np.arange(min(explanation.patches, len(split.labels)))
    else:
        index = pcam.draw(split.labels, explanation.patches, settings.seed)
    if process.rank > 0:
        process.wait()  # the first one measures alone
    memory = resume.place() / "fastest.json"
    precision, size = explaining.fastest_setting(args.checkpoint, args.method, explanation, process.device, memory)
    if process.rank == 0:
        process.wait()
    network = networks.load(args.checkpoint, process.device, precision)
    # How the work is cut up is not in the result: one process and several give the same bytes.
    stated = {
        "method": args.method,
        "seed": settings.seed,
        **method.model_dump(),
        **explanation.model_dump(exclude={"chunk", "devices", "nodes"}),
        "precision": precision,
    }
    work = resume.folder(
        f"explain-{args.method}-{args.network}",
        repr(sorted(stated.items())),
        str(explanation.chunk),
        device.type,
        pcam.sha256(args.checkpoint),
        (args.patches / pcam.CONTENTS).read_text(),
    )
    chunks = explaining.explain(
        network,
        split.patches,
        index,
        args.method,
        method,
        explanation,
        settings.seed,
        process,
        Batch(size),
        work,
        resume.place() / "superpixels",
    )
    process.wait()
    if process.rank == 0:
        store.merge_chunks(chunks, args.heatmaps, len(index), stated)
        wrong = index[store.open_heatmaps(args.heatmaps).arrays["nonfinite"]]
        if len(wrong):
            few = ", ".join(map(str, wrong[:5])) + (" …" if len(wrong) > 5 else "")
            print(
                f"WARNING: {args.method} of {args.network} is not finite on {len(wrong)} of {len(index)} patches "
                f"(test {few}); they are counted, and left out of every mean.",
                file=sys.stderr,
            )
        rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("method", help="a key of `method` in the parameters")
    parser.add_argument("network", help="a key of `network` in the parameters")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--checkpoint", type=Path, required=True, help="safetensors file that train wrote")
    parser.add_argument("--heatmaps", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)

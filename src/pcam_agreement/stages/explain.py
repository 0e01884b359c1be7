"""Explain one network by one method: the same test patches for all -> heatmaps."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from shutil import rmtree

import numpy as np
import torch
from lightning.fabric import Fabric

from pcam_agreement import command, explaining, networks, params, pcam, resume, store
from pcam_agreement.attribution.batches import Batch


def main(args: Namespace) -> None:
    settings = params.load(args.params)
    explanation, method = settings.explain, params.named("method", args.method, dict(settings.method))
    device = networks.device(settings.device)
    torch.use_deterministic_algorithms(True, warn_only=True)
    fabric = Fabric(accelerator=device.type, devices=explanation.devices, num_nodes=explanation.nodes)
    fabric.launch()
    network = networks.load(args.checkpoint, fabric.device)
    split = pcam.read(args.patches, "test")
    if explanation.draw == "first":
        index = np.arange(min(explanation.patches, len(split.labels)))
    else:
        index = pcam.draw(split.labels, explanation.patches, settings.seed)
    stated = {"method": args.method, **method.model_dump(), **explanation.model_dump(), "seed": settings.seed}
    work = resume.folder(
        f"explain-{args.method}-{args.network}",
        repr(sorted(stated.items())),
        device.type,
        pcam.sha256(args.checkpoint),
        (args.patches / pcam.CONTENTS).read_text(),
    )
    with fabric.rank_zero_first():
        batch = Batch(
            explaining.best_batch_size(network, args.method, fabric.device, work.parent / "batch_sizes.json")
            if explanation.batch_size == "auto"
            else explanation.batch_size
        )
    chunks = explaining.explain(
        network,
        split.patches,
        index,
        args.method,
        method,
        explanation,
        settings.seed,
        fabric.device,
        work,
        batch,
        fabric.global_rank,
        fabric.world_size,
    )
    fabric.barrier()
    if fabric.is_global_zero:
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

"""Compare all methods on one network, for every network: heatmaps -> agreement of every pair of methods."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from pcam_agreement import command, comparing, params, pcam, store


def main(args: Namespace) -> None:
    settings = params.load(args.params)
    split = pcam.read(args.patches, "test")
    for network in settings.networks:
        sets = {method: store.open_heatmaps(args.heatmaps / method / f"{network}.h5") for method in settings.methods}
        index = sets[settings.methods[0]].index
        slides = split.meta["wsi"].to_numpy()[index]
        results = comparing.compare(sets, split.labels[index], slides, settings.agreement)
        methods = {"methods": np.array(settings.methods, dtype="S")}
        store.write_arrays(args.agreement / f"{network}.h5", {**results, **methods})


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--heatmaps", type=Path, required=True, help="folder with one folder a method")
    parser.add_argument("--agreement", type=Path, required=True, help="folder to write one HDF5 file a network to")
    command.run(main, parser)

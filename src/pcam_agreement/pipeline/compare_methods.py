"""Compare all methods on one network, for every network: heatmaps -> agreement of every pair of methods.

python -m pcam_agreement.pipeline.compare_methods --patches data/patches --heatmaps data/heatmaps --agreement …
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from pcam_agreement.agreement.compare import compare
from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.core import command
from pcam_agreement.core.files import write_arrays
from pcam_agreement.core.settings import read_params, section
from pcam_agreement.data.pcam import read_split
from pcam_agreement.heatmaps.file import open_heatmaps
from pcam_agreement.networks.recipes import networks


def main(args: Namespace) -> None:
    raw = read_params(args.params)
    methods, settings = section(raw, "methods", list[str]), section(raw, "agreement", Agreement)
    split = read_split(args.patches, "test")
    for network in networks(raw):
        sets = {method: open_heatmaps(network.path(args.heatmaps / method, ".h5")) for method in methods}
        index = sets[methods[0]].index
        slides = split.meta["wsi"].to_numpy()[index]
        results = compare(sets, split.labels[index], slides, settings)
        write_arrays(network.path(args.agreement, ".h5"), {**results, "methods": np.array(methods, dtype="S")})


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--heatmaps", type=Path, required=True, help="folder with one folder a method")
    parser.add_argument("--agreement", type=Path, required=True, help="folder to write one folder a recipe to")
    command.run(main, parser)

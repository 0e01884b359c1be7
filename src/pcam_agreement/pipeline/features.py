"""Compute the features of a frozen network once for all trainings of its recipe; a placeholder for other recipes.

python -m pcam_agreement.pipeline.features test_resnet --patches data/patches --features data/features/test_resnet.h5
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pcam_agreement.core import command
from pcam_agreement.core.files import write_placeholder
from pcam_agreement.core.settings import Device, read_params, section, validated
from pcam_agreement.networks.recipes import recipes
from pcam_agreement.training.settings import Recipe


def main(args: Namespace) -> None:
    raw = read_params(args.params)
    settings = validated(recipes(raw, [args.recipe])[args.recipe], Recipe, f"network.{args.recipe}")
    if not settings.features_once:
        write_placeholder(args.features)
        return
    from pcam_agreement.training.features import write_features  # takes seconds to import

    write_features(settings, args.patches, section(raw, "device", Device), args.features)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="a key of `network` in the parameters")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--features", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)

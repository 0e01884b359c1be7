"""Train one network: patches -> its best checkpoint, its history, and its logits on valid and test.

python -m pcam_agreement.pipeline.train test_resnet 1 --patches data/patches --features … --checkpoint … --history …
  --logits …
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pcam_agreement.core import command, resume
from pcam_agreement.core.files import existing, sha256, write_placeholder
from pcam_agreement.core.settings import Device, Seed, read_params, section, validated
from pcam_agreement.data.pcam import CONTENTS
from pcam_agreement.networks.hub import given_file
from pcam_agreement.networks.recipes import find, recipes
from pcam_agreement.training.settings import Recipe


def main(args: Namespace) -> None:
    raw = read_params(args.params)
    device, sample = section(raw, "device", Device), section(raw, "seeds.training_patches", Seed)
    network = find(raw, args.recipe, args.training)
    if network is None:
        args.history.mkdir(parents=True, exist_ok=True)
        write_placeholder(args.checkpoint)
        write_placeholder(args.logits)
        return
    from pcam_agreement.training.fit import Files, train  # takes seconds to import

    settings = validated(recipes(raw, [args.recipe])[args.recipe], Recipe, f"network.{args.recipe}")
    contents = existing(args.patches / CONTENTS).read_text()
    weights = given_file(network.architecture, settings.weights.replace("{training}", network.training))
    identity = (
        settings.model_dump_json(),
        str(sample),
        device,
        contents,
        sha256(weights) if weights and weights.is_file() else "",
        sha256(existing(args.features)) if settings.features_once else "",
    )
    work = resume.folder(f"train-{network.name}", *identity)
    files = Files(args.patches, args.features, args.checkpoint, args.history, args.logits, work)
    train(network, settings, sample, device, files)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="a key of `network` in the parameters")
    parser.add_argument("training", help="one of `trainings` in the parameters: a seed, or untrained")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--features", type=Path, required=True, help="file that features wrote")
    parser.add_argument("--checkpoint", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--history", type=Path, required=True, help="folder for DVCLive")
    parser.add_argument("--logits", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)

"""Train one network: patches -> its best checkpoint, its history, and its logits on valid and test.

python -m pcam_agreement.pipeline.train resnet34 --patches data/patches --checkpoint … --history … --logits …
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pcam_agreement.core import command, resume
from pcam_agreement.core.files import existing, sha256
from pcam_agreement.core.names import named
from pcam_agreement.core.settings import Device, read_params, section, validated
from pcam_agreement.data.pcam import CONTENTS
from pcam_agreement.networks.recipes import recipes
from pcam_agreement.training.fit import train
from pcam_agreement.training.settings import Network


def main(args: Namespace) -> None:
    raw = read_params(args.params)
    device = section(raw, "device", Device)
    recipe = named("network", args.network, recipes(raw))
    settings = validated(recipe, Network, f"network.{args.network}")
    contents = existing(args.patches / CONTENTS).read_text()
    weights = Path(settings.weights)
    identity = (settings.model_dump_json(), device, contents, sha256(weights) if weights.is_file() else "")
    work = resume.folder(f"train-{args.network}", *identity)
    train(args.network, settings, device, args.patches, args.checkpoint, args.history, args.logits, work)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("network", help="a key of `network` in the parameters")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--checkpoint", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--history", type=Path, required=True, help="folder for DVCLive")
    parser.add_argument("--logits", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)

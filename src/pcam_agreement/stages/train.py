"""Train one network: patches -> its best checkpoint and its history."""

import hashlib
from argparse import ArgumentParser, Namespace
from pathlib import Path

from pcam_agreement import command, names, params, resume
from pcam_agreement.pcam import CONTENTS
from pcam_agreement.training import train


def main(args: Namespace) -> None:
    settings = params.load(args.params)
    network = names.named("network", args.network, settings.network)
    contents = args.patches / CONTENTS
    if not contents.exists():
        raise ValueError(f"{contents} is missing; run the fetch stage.")
    weights = Path(network.weights)
    start = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else ""
    identity = (network.model_dump_json(), settings.device, contents.read_text(), start)
    work = resume.folder(f"train-{args.network}", *identity)
    train(network, settings.device, args.patches, args.checkpoint, args.history, work)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("network", help="a key of `network` in the parameters")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--checkpoint", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--history", type=Path, required=True, help="folder for DVCLive")
    command.run(main, parser)

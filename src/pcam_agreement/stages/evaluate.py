"""Evaluate one network: its logits on valid and test, and how good they are."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pcam_agreement import command, inference, networks, params, pcam, scores, store


def main(args: Namespace) -> None:
    settings = params.load(args.params)
    device = networks.device(settings.device)
    network = networks.load(args.checkpoint, device)
    arrays = {}
    for name in ("valid", "test"):
        split = pcam.read(args.patches, name)
        arrays[f"{name}_logits"] = inference.logits(network, split.patches, settings.evaluate.batch_size, device)
        arrays[f"{name}_labels"] = split.labels
    threshold = scores.best_threshold(arrays["valid_logits"], arrays["valid_labels"])
    logits, labels, bins = arrays["test_logits"], arrays["test_labels"], settings.evaluate.ece_bins
    found = scores.scores(logits, labels, threshold, bins)
    if settings.evaluate.temperature:  # ranks and calls stay as they are, probabilities do not
        temperature = scores.best_temperature(arrays["valid_logits"], arrays["valid_labels"])
        calibrated = scores.scores(logits / temperature, labels, threshold / temperature, bins)
        found |= {f"calibrated_{name}": calibrated[name] for name in ("nll", "brier", "ece")}
        found["temperature"] = temperature
    store.write_arrays(args.predictions, arrays)
    store.write_json(args.scores, found)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--checkpoint", type=Path, required=True, help="safetensors file that train wrote")
    parser.add_argument("--predictions", type=Path, required=True, help="HDF5 file to write")
    parser.add_argument("--scores", type=Path, required=True, help="JSON file to write")
    command.run(main, parser)

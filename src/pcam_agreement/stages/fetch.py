"""Fetch the patches that data.source names, as PCam's files: checked, counted, with a description beside them."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from pcam_agreement import audit, command, image_folder, params, pcam, planted, store, synthetic, zenodo


def main(args: Namespace) -> None:
    settings = params.load(args.params)
    with store.final_folder(args.out) as partial:
        match settings.data.source:
            case "synthetic":
                synthetic.generate(partial, settings.data.synthetic, settings.seed)
            case "planted":
                planted.generate(partial, settings.data.planted, settings.seed)
            case "pcam":
                zenodo.fetch_pcam(partial, settings.data.pcam, pcam.PUBLISHED)
            case "folder":
                image_folder.convert(partial, settings.data.folder, settings.seed)
        description = pcam.describe(partial)
        differing = sum(split["label_differs_from_meta"] for split in description["splits"].values())
        if differing:
            print(
                f"WARNING: the label of {differing} patches differs from center_tumor_patch in meta.", file=sys.stderr
            )
        found = audit.audit({name: pcam.read(partial, name) for name in pcam.SPLITS})
        for leak in audit.leaks(found):
            print(f"WARNING: {leak}", file=sys.stderr)
        pcam.write_contents(partial, {"source": settings.data.source, **description, "audit": found})
    for name, split in description["splits"].items():
        repeated = found["splits"][name]["repeated"]
        print(
            f"{name:5}  {split['patches']:7} patches  {split['tumour']:7} tumour  {split['slides']:7} slides  "
            f"{repeated:7} repeated"
        )


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, required=True, help="folder of patches to write, replaced when complete")
    command.run(main, parser)

"""Bring the patches of data.source into PCam's files, check them, and write contents.json beside them.

python -m pcam_agreement.pipeline.fetch --out data/patches
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from pcam_agreement.core import command, plugins
from pcam_agreement.core.files import atomic_folder
from pcam_agreement.core.settings import Seed, read_params, section
from pcam_agreement.data import audit
from pcam_agreement.data.pcam import SPLITS, read_split


def main(args: Namespace) -> None:
    raw = read_params(args.params)
    name, seed = section(raw, "data.source", str), section(raw, "seeds.data", Seed)
    source = plugins.load(plugins.SOURCES, "data source", name)
    with atomic_folder(args.out) as partial:
        source.write(partial, section(raw, f"data.{name}", source.Settings), seed)
        description = audit.describe(partial)
        differing = sum(split["label_differs_from_meta"] for split in description["splits"].values())
        if differing:
            print(
                f"WARNING: the label of {differing} patches differs from center_tumor_patch in meta.", file=sys.stderr
            )
        audited = audit.audit({split: read_split(partial, split) for split in SPLITS})
        for leak in audit.leaks(audited):
            print(f"WARNING: {leak}", file=sys.stderr)
        identity = {"source": name, "title": source.TITLE, "synthetic": source.SYNTHETIC}
        audit.write_contents(partial, {**identity, **description, "audit": audited})
    for split, counts in description["splits"].items():
        repeated = audited["splits"][split]["repeated"]
        print(
            f"{split:5}  {counts['patches']:7} patches  {counts['tumour']:7} tumour  {counts['slides']:7} slides  "
            f"{repeated:7} repeated"
        )


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, required=True, help="folder of patches to write, replaced when complete")
    command.run(main, parser)

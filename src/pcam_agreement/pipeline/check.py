"""Check the whole of params.yaml before anything runs; the output is constant, so that nothing reruns for it.

python -m pcam_agreement.pipeline.check --out data/checked
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pcam_agreement.core import command
from pcam_agreement.core.files import atomic_file
from pcam_agreement.core.settings import read_params
from pcam_agreement.pipeline.params import check_params


def main(args: Namespace) -> None:
    check_params(read_params(args.params), str(args.params))
    with atomic_file(args.out) as partial:
        partial.write_text("params.yaml was checked\n")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, required=True, help="file to write, always the same")
    command.run(main, parser)

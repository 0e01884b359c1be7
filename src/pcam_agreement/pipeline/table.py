"""Print the agreement table of the last run.

python -m pcam_agreement.pipeline.table
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import pandas as pd

from pcam_agreement.core import command
from pcam_agreement.core.files import read_json
from pcam_agreement.report import summary


def main(args: Namespace) -> None:
    print(summary.as_text(read_json(args.summary), pd.read_csv(args.agreement)))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--summary", type=Path, default=Path("metrics/summary.json"))
    parser.add_argument("--agreement", type=Path, default=Path("plots/agreement.csv"))
    command.run(main, parser)

"""The history of a training, as DVCLive logged it."""

from pathlib import Path

import pandas as pd


def read_history(folder: Path) -> pd.DataFrame:
    """One row an epoch, one column a metric (train/loss, valid/auroc …)."""
    metrics = folder / "plots" / "metrics"
    columns = [
        pd.read_csv(path, sep="\t", index_col="step").iloc[:, 0].rename(str(path.relative_to(metrics).with_suffix("")))
        for path in sorted(metrics.rglob("*.tsv"))
    ]
    return pd.concat(columns, axis=1) if columns else pd.DataFrame()

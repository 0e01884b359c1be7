"""Real patches, where they are at hand, through the whole pipeline."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from pcam_agreement.pipeline.profile import laid_over
from repository import ROOT, Repository, stages

SHARED = ROOT.parent / "shared"
SAMPLE, KAGGLE, WEIGHTS = SHARED / "pcam-sample", SHARED / "pcam-kaggle", SHARED / "weights"


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of real patches is not here")
def test_the_sample_of_real_patches_goes_through_the_whole_pipeline(tmp_path):
    def change(raw: dict) -> None:
        raw["train"]["epochs"] = 1
        raw["methods"] = ["lime"]

    r = Repository(tmp_path, SAMPLE, change)
    assert r.repro_here() == stages(
        "check",
        "fetch",
        "features",
        "train",
        "explain",
        "faithfulness",
        "compare",
        "compare_methods",
        "report",
        "atlas",
        methods=("lime",),
    )
    summary = json.loads((tmp_path / "metrics" / "summary.json").read_text())
    assert summary["explained_patches"] == 6
    assert all(0 < found["iou_within"] < 1 for found in summary["agreement"].values())
    assert (tmp_path / "plots" / "figures" / "agreement.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(not (KAGGLE.is_dir() and WEIGHTS.is_dir()), reason="the real patches or weights are not here")
def test_the_profile_of_real_patches_goes_through_with_another_folder_and_no_ids(tmp_path):
    (tmp_path / "kaggle" / "train").mkdir(parents=True)
    labels = pd.read_csv(KAGGLE / "train_labels.csv").groupby("label").tail(32)  # 64 patches
    labels.to_csv(tmp_path / "kaggle" / "train_labels.csv", index=False)
    for name in labels["id"]:
        shutil.copy(KAGGLE / "train" / f"{name}.webp", tmp_path / "kaggle" / "train")
    profile = YAML(typ="safe", pure=True).load(ROOT / "profiles" / "real.yaml")

    def change(raw: dict) -> None:
        raw["network"] = {}
        raw.update(laid_over(raw, profile))
        raw.update(trainings=[1, "untrained"], methods=["saliency", "grad_cam"])
        raw["data"]["kaggle"].update(path=str(tmp_path / "kaggle"), ids=None)
        raw["explain"].update(patches=6)
        for block in raw["network"].values():
            block.update(epochs=1, batch_size=16)
            if "weights" in block:
                block["weights"] = str(WEIGHTS / Path(block["weights"]).name)

    (tmp_path / "repository").mkdir()
    r = Repository(tmp_path / "repository", SAMPLE, change)
    r.repro_here()
    scores = pd.read_csv(r.path / "plots" / "scores.csv")
    assert set(scores["recipe"]) == set(profile["recipes"])
    assert json.loads((r.path / "metrics" / "summary.json").read_text())["explained_patches"] == 6
    assert "synthetic" not in (r.path / "metrics" / "answer.md").read_text().lower()

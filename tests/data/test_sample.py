"""Real patches, where they are at hand, through the whole pipeline."""

import json

import pytest

from repository import ROOT, Repository, stages

SAMPLE = ROOT.parent / "shared" / "pcam-sample"


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

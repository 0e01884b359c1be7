"""The faithfulness stage on heatmaps of which some are constant."""

from argparse import Namespace

import numpy as np
import pytest
from ruamel.yaml import YAML

from pcam_agreement.core.files import read_arrays
from pcam_agreement.data.pcam import read_split
from pcam_agreement.heatmaps.file import merge_chunks, write_chunk
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.networks.recipes import Network
from pcam_agreement.pipeline import faithfulness as stage
from pcam_agreement.report.faithfulness import faithfulness_table


@pytest.mark.parametrize("constant", [[2], range(7)])
def test_a_constant_heatmap_has_no_curves_and_the_stage_writes_the_same_bytes_twice(
    dataset, raw, resnet, tmp_path, constant
):
    raw["explain"].update(batch_size=5, chunk=2)
    raw["faithfulness"].update(patches=4, steps=2, rolls=2)
    raw["network"]["tiny"], raw["trainings"] = {"architecture": "timm/test_resnet"}, [1, 2, "untrained", "untrained_2"]
    YAML().dump(raw, tmp_path / "params.yaml")
    heatmaps = np.random.default_rng(0).exponential(size=(7, 96, 96)).astype(np.float16)
    flags = {name: np.isin(np.arange(7), list(constant)) for name in ("constant", "nonfinite")}
    chunk = {"index": np.arange(3, 17, 2), "heatmaps": heatmaps, "logits": np.zeros(7, np.float32), **flags}
    write_chunk(tmp_path / "chunk.npz", chunk)
    stated = {"precision": "32", "reduce": "absolute_of_sum"}
    for training in ("1", "untrained"):  # and no other is needed
        save_checkpoint(resnet, tmp_path / "checkpoints" / "tiny" / f"{training}.safetensors")
        (tmp_path / "lime" / "tiny").mkdir(parents=True, exist_ok=True)
        merge_chunks([tmp_path / "chunk.npz"], tmp_path / "lime" / "tiny" / f"{training}.h5", 7, {}, stated)
    files = {"checkpoints": "checkpoints", "heatmaps": "lime", "params": "params.yaml"}
    given = Namespace(recipe="tiny", patches=dataset, **{name: tmp_path / file for name, file in files.items()})
    written = []
    for name in ("one.h5", "again.h5"):
        given.faithfulness = tmp_path / name
        stage.main(given)
        written.append(given.faithfulness.read_bytes())
    assert written[0] == written[1]
    results = read_arrays(given.faithfulness)
    assert results["index"].tolist() == [3, 7, 11, 15]  # evenly spaced
    lost = np.isin([0, 2, 4, 6], list(constant))
    assert [name.decode() for name in results["networks"]] == ["tiny-1", "tiny-untrained"]
    assert results["deletion_rolled_curve"].shape == (2, 4, 2, 3)
    for name in results.keys() - {"index", "slides", "networks"}:
        assert (np.isfinite(results[name]).reshape(2, 4, -1).all(2) == ~lost).all(), name
        np.testing.assert_array_equal(*results[name])  # the same network and heatmaps: the same random rankings
        results[name] = results[name][0]
    results["slides"] = read_split(dataset, "test").meta["wsi"].to_numpy()[results["index"]]
    row = faithfulness_table("lime", [(Network("tiny", "1", "timm/test_resnet"), results)], 400, 0).iloc[0]
    assert row[["patches", "left_out", "verdict"]].tolist() == [(~lost).sum(), lost.sum(), "undefined"]
    assert row["reason"] == ("no patch" if lost.all() else "one slide")

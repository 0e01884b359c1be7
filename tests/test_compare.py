"""The compare stage: blocks of patches do not show in what it writes."""

from argparse import Namespace

import numpy as np
import pytest
from ruamel.yaml import YAML

from pcam_agreement import pcam, store
from pcam_agreement.stages import compare


@pytest.fixture
def compared(dataset, raw, tmp_path, monkeypatch):
    """Compare heatmaps of two networks on seven patches, in blocks of this size."""
    raw["networks"] = ["alexnet", "resnet34"]
    YAML().dump(raw, tmp_path / "params.yaml")
    index = pcam.draw(pcam.read(dataset, "test").labels, 7, 0)
    for seed, network in enumerate(raw["networks"]):
        heatmaps = np.random.default_rng(seed).exponential(size=(7, 96, 96)).astype(np.float16)
        flags = dict.fromkeys(("constant", "nonfinite"), np.zeros(7, bool))
        chunk = {"index": index, "heatmaps": heatmaps, "logits": np.zeros(7, np.float32), **flags}
        store.write_chunk(tmp_path / "chunk.npz", chunk)
        store.merge_chunks([tmp_path / "chunk.npz"], tmp_path / f"{network}.h5", 7, {})

    def run(block: int) -> dict[str, np.ndarray]:
        monkeypatch.setattr(compare, "BLOCK", block)
        files = {"params": tmp_path / "params.yaml", "agreement": tmp_path / "agreement.h5"}
        compare.main(Namespace(patches=dataset, heatmaps=tmp_path, **files))
        return store.read_arrays(tmp_path / "agreement.h5")

    return run


def test_several_blocks_give_every_patch_what_one_block_gives(compared):
    one, several = compared(64), compared(3)
    assert one.keys() == several.keys()
    assert {"iou", "centre_mass", "tumour_share", "area"} <= one.keys()
    for name in one.keys() - {"null_iou"}:  # which looks at the other patches of its block
        np.testing.assert_array_equal(one[name], several[name], err_msg=name)
    assert len(np.unique(one["iou"])) == 7  # a patch in another's place would be seen

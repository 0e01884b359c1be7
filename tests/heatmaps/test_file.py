"""The heatmap file: what is read is what was written, and what is no such file is one sentence."""

import json

import h5py
import numpy as np
import pytest

from pcam_agreement.heatmaps.file import merge_chunks, open_heatmaps, write_chunk
from pcam_agreement.heatmaps.levels import quantise, restore

random = np.random.default_rng(0)


@pytest.fixture
def written(tmp_path):
    """A file of five patches in two chunks, the first two of them repeated; and its heatmaps."""
    maps = random.random((7, 96, 96)).astype(np.float16)
    index = np.array([1, 4, 6, 7, 9, 1, 4])
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path, rows in zip(paths, (slice(0, 4), slice(4, 7)), strict=True):
        flags = {name: index[rows] == 6 for name in ("constant", "nonfinite", "unconverged")}
        write_chunk(
            path,
            {
                "index": index[rows],
                "heatmaps": maps[rows],
                "logits": np.zeros(len(index[rows])),
                "r2": index[rows] / 2,
                **flags,
            },
        )
    method = {"name": "lime", "stochastic": True, "passes": {"forward": 3, "gradient": 0}}
    merge_chunks(paths, tmp_path / "lime.h5", 5, method, {"seed": 0})
    return tmp_path / "lime.h5", maps


def test_a_file_holds_the_patches_in_order_what_is_repeated_and_the_method(written):
    path, maps = written
    heatmaps = open_heatmaps(path)
    np.testing.assert_array_equal(heatmaps.read(), maps[:5])
    np.testing.assert_array_equal(heatmaps.read(np.array([1, 3])), maps[[1, 3]])
    np.testing.assert_array_equal(heatmaps.repeated, maps[5:])
    assert heatmaps.index.tolist() == [1, 4, 6, 7, 9]
    assert heatmaps.constant.tolist() == [False, False, True, False, False]
    assert heatmaps.diagnostics == ["r2"]
    assert heatmaps.arrays["r2"].tolist() == [0.5, 2, 3, 3.5, 4.5]
    assert (heatmaps.method["passes"], heatmaps.settings) == ({"forward": 3, "gradient": 0}, {"seed": 0})


def test_runs_that_are_read_past_hdf5_are_those_that_it_reads(written):
    path, maps = written
    out = np.empty((3, 96, 96), np.float16)
    open_heatmaps(path).read_runs([slice(0, 1), slice(3, 5)], out)
    np.testing.assert_array_equal(out, maps[[0, 3, 4]])


def test_the_same_chunks_give_the_same_bytes(written, tmp_path):
    path, _ = written
    before, stated = path.read_bytes(), open_heatmaps(path)
    merge_chunks([tmp_path / "a.npz", tmp_path / "b.npz"], path, 5, stated.method, stated.settings)
    assert path.read_bytes() == before


def test_in_8_bits_the_bytes_do_not_depend_on_how_patches_are_divided_into_chunks(written, tmp_path):
    chunks = [dict(np.load(tmp_path / f"{name}.npz")) for name in "ab"]
    whole = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    merged = []
    for ends in ((0, 7), (0, 4, 7), (0, 1, 6, 7)):
        paths = [tmp_path / f"{number}.npz" for number in range(len(ends) - 1)]
        for path, start, stop in zip(paths, ends, ends[1:], strict=False):
            write_chunk(path, {name: values[start:stop] for name, values in whole.items()})
        merge_chunks(paths, tmp_path / "merged.h5", 5, {}, {}, quantised=True)
        merged.append((tmp_path / "merged.h5").read_bytes())
    assert merged[0] == merged[1] == merged[2]


def test_a_file_of_8_bits_is_read_as_one_of_float16_from_heatmaps_of_256_levels(written, tmp_path):
    path, maps = written
    stated, small, chunks = open_heatmaps(path), tmp_path / "small.h5", [tmp_path / "a.npz", tmp_path / "b.npz"]
    merge_chunks(chunks, small, 5, stated.method, stated.settings, quantised=True)
    with h5py.File(small) as file:
        assert {file[name].dtype for name in ("heatmaps", "repeated")} == {np.dtype(np.uint8)}
        assert file["heatmaps"].id.get_storage_size() + file["levels"].id.get_storage_size() == 5 * (9216 + 512)
    expected = restore(*quantise(maps))
    assert 0 < np.abs(expected.astype(float) - maps).max() < 0.02
    heatmaps = open_heatmaps(small)
    for part in (slice(None), slice(1, 3), np.array([1, 3])):
        np.testing.assert_array_equal(heatmaps.read(part), expected[:5][part])
        assert heatmaps.read(part).dtype == np.float16
    out = np.empty((3, 96, 96), np.float16)
    heatmaps.read_runs([slice(0, 1), slice(3, 5)], out)
    np.testing.assert_array_equal(out, expected[[0, 3, 4]])
    np.testing.assert_array_equal(heatmaps.repeated, expected[5:])
    assert heatmaps.arrays.keys() == stated.arrays.keys()
    assert (heatmaps.method, heatmaps.settings, heatmaps.diagnostics) == (stated.method, stated.settings, ["r2"])


def test_what_is_no_file_of_heatmaps_is_one_sentence(written, tmp_path):
    path, _ = written
    with pytest.raises(ValueError, match=r"missing\.h5 is missing; run the stage that writes it"):
        open_heatmaps(tmp_path / "missing.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match=r"text\.h5 is not a file of heatmaps .*; delete it and run dvc repro"):
        open_heatmaps(tmp_path / "text.h5")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"lime\.h5 is not a file of heatmaps"):
        open_heatmaps(path)
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["settings"] = json.dumps({})
        file["index"] = file["constant"] = file["heatmaps"] = file["repeated"] = np.zeros(1)
    with pytest.raises(ValueError, match=r"old\.h5 is not a file of heatmaps"):
        open_heatmaps(tmp_path / "old.h5")

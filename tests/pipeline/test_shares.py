"""The command for anybody's heatmaps, as somebody would run it."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from pcam_agreement.agreement.shares import decompose_heatmaps


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    heatmaps = rng.random((40, 32, 20)) + rng.random((8, 40, 32, 20))
    recipes = np.array(["resnet"] * 3 + ["vit"] * 3 + ["resnet", "vit"])
    trained = np.arange(8) < 6
    return {
        "heatmaps": heatmaps,
        "recipes": recipes,
        "labels": np.arange(40) % 2,
        "slides": np.arange(40) // 2,
        "trained": trained,
    }


def run(*arguments: object) -> tuple[int, str, str]:
    line = [sys.executable, "-m", "pcam_agreement.pipeline.shares", *map(str, arguments)]
    ended = subprocess.run(line, capture_output=True, text=True)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_the_table_has_the_numbers_of_the_function_and_fits_a_terminal(arrays, tmp_path: Path, kind: str):
    path, figure = tmp_path / f"mine.{kind}", tmp_path / "shares.png"
    if kind == "npz":
        np.savez(path, allow_pickle=False, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array.astype("S") if array.dtype.kind == "U" else array
    status, printed, error = run(path, "--sigma", 1, "--figure", figure)
    assert status == 0, error
    expected = decompose_heatmaps(**arrays, sigma=1)
    common = expected.shares["common"]
    line = next(line for line in printed.splitlines() if line.startswith("shared by two recipes"))
    assert line.split()[-4:] == [f"{common.value:.3f}", f"{common.low:.3f}", "to", f"{common.high:.3f}"]
    assert f"{expected.R.value:.3f}" in printed
    assert "The intervals cover other trainings and slides" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_file_that_lacks_something_is_one_sentence(arrays, tmp_path: Path):
    del arrays["slides"]
    np.savez(tmp_path / "mine.npz", allow_pickle=False, **arrays)
    status, _, error = run(tmp_path / "mine.npz")
    assert status == 1
    assert "lacks slides" in error
    assert len(error.splitlines()) == 1
    status, _, error = run(tmp_path / "none.npz")
    assert (status, len(error.splitlines())) == (1, 1)

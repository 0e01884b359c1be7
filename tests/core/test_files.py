"""Files are there whole or not at all, also where the disk is full."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import ready
from pcam_agreement.core.files import MARGIN, atomic_file, atomic_folder, write_arrays, write_json
from pcam_agreement.heatmaps.file import merge_chunks, write_chunk
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.training.callbacks import AtomicIO


def test_a_file_appears_when_it_is_complete_and_a_failure_leaves_the_old_one(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_json(path, {"a": 1})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), atomic_file(path) as partial:
            partial.write_text("half")
            raise error
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["b.json"]


def test_a_folder_takes_the_place_of_the_old_one_when_it_is_complete(tmp_path):
    for content in ("old", "new"):
        with atomic_folder(tmp_path / "a") as partial:
            (partial / "file").write_text(content)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "a") as partial:
        (partial / "file").write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "a" / "file").read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


@pytest.fixture
def tiny(tmp_path) -> Iterator[Path]:
    """A disk of 1.25 MiB, a little more than what is kept free."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MARGIN * 5 // 4}", "tmpfs", disk], capture_output=True
    )
    if os.getuid() != 0 or mounted.returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_is_one_error_with_the_path_and_nothing_half_written(tiny, tmp_path):
    large = np.zeros(2 * MARGIN, np.uint8)
    heatmaps = {"heatmaps": np.ones((64, 96, 96), np.float16), "index": np.arange(64)}
    write_chunk(tmp_path / "chunk.npz", heatmaps)
    network = ready("timm/resnet10t")

    def folder(path: Path) -> None:
        with atomic_folder(path) as partial:
            (partial / "file").write_bytes(large.tobytes())

    writers = {
        "arrays.h5": lambda path: write_arrays(path, {"a": large}),
        "chunk.npz": lambda path: write_chunk(path, {"a": large}),
        "heatmaps.h5": lambda path: merge_chunks([tmp_path / "chunk.npz"], path, 64, {}, {}),
        "text.json": lambda path: write_json(path, {"a": "x" * (2 * MARGIN)}),
        "last.ckpt": lambda path: AtomicIO().save_checkpoint({"a": torch.zeros(MARGIN)}, path),
        "network.safetensors": lambda path: save_checkpoint(network, path),
        "folder": folder,
    }
    for name, write in writers.items():
        with pytest.raises(OSError, match="No space left on device") as error:
            write(tiny / name)
        assert Path(error.value.filename).is_relative_to(tiny), name
        assert list(tiny.iterdir()) == [], name

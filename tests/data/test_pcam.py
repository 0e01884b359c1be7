import os
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from pcam_agreement.data.pcam import file_name, read_split, stratified_sample, write_split

N = 5
HEADER, ROW = b",coord_y,coord_x,tumor_patch,center_tumor_patch,wsi\n", b"0,1,2,True,True,slide\n"
FULL_DISK = Path("/dev/full")  # a device that has no room for a single byte


def entries(n: int = N) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = (np.arange(n) % 2).astype(np.uint8)
    meta = pd.DataFrame(
        {
            "coord_y": np.arange(n),
            "coord_x": np.arange(n) + 100,
            "tumor_patch": labels.astype(bool),
            "center_tumor_patch": labels.astype(bool),
            "wsi": [f"slide_{i // 2}" for i in range(n)],
        }
    )
    patches = generator.integers(0, 256, (n, 96, 96, 3), np.uint8)
    return patches, labels, meta, generator.integers(0, 2, (n, 96, 96), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the split valid in it, masks included."""
    patches, labels, meta, masks = entries()
    write_split(tmp_path, "valid", [patches[:3], patches[3:]], labels, meta, [masks])
    return tmp_path


def rewrite(path: Path, key: str, values: np.ndarray, **layout: object) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=values, **layout)


def test_what_is_written_is_read(folder: Path) -> None:
    patches, labels, meta, masks = entries()
    split = read_split(folder, "valid")
    assert split.name == "valid"
    np.testing.assert_array_equal(split.patches, patches)
    np.testing.assert_array_equal(split.labels, labels)
    np.testing.assert_array_equal(split.masks, masks)
    assert split.labels.dtype == split.patches.dtype == np.uint8
    pd.testing.assert_frame_equal(split.meta, meta, check_dtype=False)


def test_the_files_are_those_of_pcam(folder: Path) -> None:
    with h5py.File(folder / "camelyonpatch_level_2_split_valid_x.h5") as x:
        assert x["x"].shape == (N, 96, 96, 3) and x["x"].compression is None and x["x"].chunks is None
    with h5py.File(folder / "camelyonpatch_level_2_split_valid_y.h5") as y:
        assert y["y"].shape == (N, 1, 1, 1) and y["y"].dtype == np.uint8
    header = (folder / "camelyonpatch_level_2_split_valid_meta.csv").read_text().splitlines()[0]
    assert header == ",coord_y,coord_x,tumor_patch,center_tumor_patch,wsi"


def test_the_same_input_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    patches, labels, meta, masks = entries()
    again = tmp_path / "again"
    again.mkdir()
    write_split(again, "valid", [patches], labels, meta, [masks])
    for path in again.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_contiguous_patches_are_mapped_and_cannot_be_changed(folder: Path) -> None:
    patches = read_split(folder, "valid").patches
    assert isinstance(patches, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        patches[0] = 0


def test_patches_in_compressed_chunks_are_read(folder: Path) -> None:
    patches = entries()[0]
    rewrite(folder / file_name("valid", "x"), "x", patches, chunks=(2, 96, 96, 3), compression="gzip")
    np.testing.assert_array_equal(read_split(folder, "valid").patches, patches)


def test_masks_may_be_absent(folder: Path) -> None:
    (folder / file_name("valid", "mask")).unlink()
    assert read_split(folder, "valid").masks is None


@pytest.mark.parametrize("kind", ["x", "y", "meta"])
def test_a_missing_file_is_told(folder: Path, kind: str) -> None:
    path = folder / file_name("valid", kind)
    path.unlink()
    with pytest.raises(ValueError, match=f"{path} is missing; run the fetch stage."):
        read_split(folder, "valid")


@pytest.mark.parametrize("kind", ["x", "y", "mask"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_truncated_file_is_told(folder: Path, kind: str, share: float) -> None:
    path = folder / file_name("valid", kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=rf"{path} cannot be read as HDF5 \(.*\); fetch it again\."):
        read_split(folder, "valid")


def test_a_file_that_is_not_hdf5_is_told(folder: Path) -> None:
    path = folder / file_name("valid", "x")
    path.write_text("<html>Too many requests</html>")
    with pytest.raises(ValueError, match=rf"{path} cannot be read as HDF5 \(.*\); fetch it again\."):
        read_split(folder, "valid")


@pytest.mark.parametrize(
    ("key", "values", "sentence"),
    [
        ("images", np.zeros((N, 96, 96, 3), np.uint8), r"expected a dataset 'x', found \['images'\]"),
        ("x", np.zeros((N, 96, 96, 3), np.float32), r"expected uint8 \[N, 96, 96, 3\] in 'x', found float32 \[5, 96"),
        ("x", np.zeros((N, 3, 96, 96), np.uint8), r"expected uint8 \[N, 96, 96, 3\] in 'x', found uint8 \[5, 3, 96"),
        ("x", np.zeros((N, 96), np.uint8), r"expected uint8 \[N, 96, 96, 3\] in 'x', found uint8 \[5, 96\]"),
    ],
    ids=["key", "type", "shape", "axes"],
)
def test_a_foreign_hdf5_file_is_told(folder: Path, key: str, values: np.ndarray, sentence: str) -> None:
    rewrite(folder / file_name("valid", "x"), key, values)
    with pytest.raises(ValueError, match=sentence + ".*; it is not a PCam file"):
        read_split(folder, "valid")


def test_labels_other_than_0_and_1_are_told(folder: Path) -> None:
    labels = np.array([0, 1, 2, 255, 1], np.uint8).reshape(N, 1, 1, 1)
    rewrite(folder / file_name("valid", "y"), "y", labels)
    with pytest.raises(ValueError, match=r"expected labels 0 and 1, found \[2, 255\]; fetch it again\."):
        read_split(folder, "valid")


def test_a_label_too_few_is_told(folder: Path) -> None:
    rewrite(folder / file_name("valid", "y"), "y", np.zeros((N - 1, 1, 1, 1), np.uint8))
    with pytest.raises(ValueError, match="the valid split has 5 patches but 4 labels; fetch it again"):
        read_split(folder, "valid")


def test_a_row_of_meta_too_few_is_told(folder: Path) -> None:
    path = folder / file_name("valid", "meta")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match="the valid split has 5 patches but 4 rows of meta; fetch it again"):
        read_split(folder, "valid")


def test_a_mask_too_few_is_told(folder: Path) -> None:
    rewrite(folder / file_name("valid", "mask"), "mask", np.zeros((N - 1, 96, 96, 1), np.uint8))
    with pytest.raises(ValueError, match="the valid split has 5 patches but 4 masks; fetch it again"):
        read_split(folder, "valid")


def test_a_missing_column_of_meta_is_told(folder: Path) -> None:
    path = folder / file_name("valid", "meta")
    pd.read_csv(path, index_col=0).drop(columns="wsi").to_csv(path)
    with pytest.raises(ValueError, match=r"expected the columns coord_y, .*; wsi missing"):
        read_split(folder, "valid")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a CSV file in UTF-8"),
        (b"\n\n", "is not a CSV file in UTF-8"),
        (b"\xff\xfe,w\x00s\x00i\x00", "is not a CSV file in UTF-8"),
        (HEADER + b'0,1,2,True,True,"slide\n', "is not a CSV file in UTF-8"),
        (HEADER + b"0,1,2,True,True,slide\n" + b"1,1,2,True,True,slide,more\n", "is not a CSV file in UTF-8"),
        (HEADER.replace(b"wsi", b"w\xe9") + ROW, "is not a CSV file in UTF-8"),
        (HEADER + ROW + b"1,1,2,yes,True,slide\n", "expected True or False in tumor_patch, found yes in row 1; mend"),
        (
            HEADER + ROW + b"1,1,2,True,1,slide\n",
            "expected True or False in center_tumor_patch, found 1 in row 1",
        ),
        (HEADER + b"0,1,2,True,0,slide\n", "expected True or False in center_tumor_patch, found 0 in row 0; mend"),
        (HEADER + ROW + b"1,1,2,True\n", "expected True or False in center_tumor_patch, found nan in row 1; mend"),
        (HEADER + ROW + b"1,1,2,True,True,\n", "expected the name of a slide in every row of wsi, found none in row 1"),
    ],
)
def test_a_spoilt_meta_file_is_named(folder: Path, content: bytes, sentence: str) -> None:
    path = folder / file_name("valid", "meta")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}:? {sentence}"):
        read_split(folder, "valid")


@pytest.mark.skipif(not FULL_DISK.exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named(folder: Path) -> None:
    patches, labels, meta, masks = entries(2)
    path = folder / file_name("test", "meta")
    path.with_name(f"{path.name}.{os.getpid()}.partial").symlink_to(FULL_DISK)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_split(folder, "test", [patches], labels, meta, [masks])
    assert caught.value.filename == str(path) and not path.exists()


@pytest.mark.parametrize("count", [1, 7, 20, 99])
def test_a_stratified_sample_has_each_class_in_its_share(count: int) -> None:
    labels = np.array([1] * 6 + [0] * 14, np.uint8)
    index = stratified_sample(labels, count, 0)
    size = min(count, 20)
    assert len(set(index)) == size and (np.diff(index) > 0).all()
    assert labels[index].sum() == round(size * 0.3)
    np.testing.assert_array_equal(index, stratified_sample(labels, count, 0))

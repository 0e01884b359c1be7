"""The published files: their checksums, and how they come from a folder or a mirror into the data."""

import gzip
import hashlib
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from mirror import BODY, OTHER, Mirror
from pcam_agreement.data.pcam import SPLITS, file_name
from pcam_agreement.data.sources import pcam
from pcam_agreement.data.sources.pcam import PUBLISHED, Published, Settings

Publication = tuple[dict[str, Published], dict[str, bytes]]


def test_the_checksums_are_those_of_torchvision() -> None:
    pytest.importorskip("torchvision")
    from torchvision.datasets import PCAM

    theirs = {name: md5 for split in PCAM._FILES.values() for name, _, md5 in split.values()}
    assert len(theirs) == 6
    assert theirs == {name: PUBLISHED[name].archive_md5 for name in theirs}


def test_every_published_file_has_its_own_checksums() -> None:
    assert set(PUBLISHED) == {file_name(split, kind) for split in SPLITS for kind in ("x", "y", "meta")}
    assert len({file.archive_md5 for file in PUBLISHED.values()}) == 9
    assert len({file.md5 for file in PUBLISHED.values()}) == 9


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The folder of downloads."""
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that the source writes."""
    (tmp_path / "patches").mkdir()
    return tmp_path / "patches"


@pytest.fixture
def publication(raw: Path) -> Publication:
    """A small publication, downloaded: an archive, a file that is unpacked already, and a table."""
    plain = {"a.h5": BODY, "b.h5": OTHER, "c.csv": b",wsi\n0,one\n"}
    published = {}
    for name, content in plain.items():
        archive = content if name.endswith(".csv") else gzip.compress(content, 1, mtime=0)
        published[name] = Published(len(archive), hashlib.md5(archive).hexdigest(), hashlib.md5(content).hexdigest())
    (raw / "a.h5.gz").write_bytes(gzip.compress(BODY, 1, mtime=0))
    (raw / "b.h5").write_bytes(OTHER)
    (raw / "c.csv").write_bytes(plain["c.csv"])
    return published, plain


def write(folder: Path, raw: Path, published: dict[str, Published], *mirrors: str) -> dict[str, bytes]:
    pcam.write(folder, Settings(mirrors=list(mirrors), directory=str(raw)), 0, published)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_files_that_are_on_disk_are_adopted(folder: Path, raw: Path, publication: Publication) -> None:
    published, plain = publication
    assert write(folder, raw, published) == plain
    assert (folder / "b.h5").samefile(raw / "b.h5")


def test_an_archive_that_is_not_on_disk_is_downloaded_once(folder: Path, raw: Path, publication: Publication) -> None:
    published, plain = publication
    mirror = Mirror()
    mirror.body = (raw / "a.h5.gz").read_bytes()
    (raw / "a.h5.gz").unlink()
    url = mirror.url.replace("patches.gz", "{name}")
    assert write(folder, raw, published, url) == plain
    mirror.stop()
    shutil.rmtree(folder)
    folder.mkdir()
    assert write(folder, raw, published, url) == plain
    assert mirror.sent == len(mirror.body)


def test_a_wrong_unpacked_file_is_refused(folder: Path, raw: Path, publication: Publication) -> None:
    (raw / "b.h5").write_bytes(BODY[:-1])
    with pytest.raises(ValueError, match=r"raw/b\.h5: expected MD5 .*, got .*; delete it and run again\."):
        write(folder, raw, publication[0])


def test_a_mirror_without_a_place_for_the_name_is_refused(folder: Path, raw: Path, publication: Publication) -> None:
    with pytest.raises(ValueError, match=r"https://example\.org/pcam has no \{name\}; write it where"):
        write(folder, raw, publication[0], "https://example.org/pcam")


@pytest.mark.parametrize("options", [{"chunks": (3, 8, 8, 1), "compression": "gzip"}, {}], ids=["chunks", "contiguous"])
def test_a_file_in_chunks_is_made_contiguous_and_the_published_one_stays(folder: Path, raw: Path, options) -> None:
    patches = np.random.default_rng(0).integers(0, 256, (pcam.BLOCK + 7, 8, 8, 3), dtype=np.uint8)
    with h5py.File(raw / "x.h5", "w") as file:
        file.create_dataset("x", data=patches, **options)
    content = (raw / "x.h5").read_bytes()
    assert list(write(folder, raw, {"x.h5": Published(None, "", hashlib.md5(content).hexdigest())})) == ["x.h5"]
    assert (raw / "x.h5").read_bytes() == content
    assert (folder / "x.h5").samefile(raw / "x.h5") == (options == {})
    with h5py.File(folder / "x.h5") as file:
        assert file["x"].chunks is None
        assert file["x"].id.get_offset() is not None
        np.testing.assert_array_equal(file["x"], patches)


def test_an_adopted_file_on_another_disk_is_copied(raw: Path, publication: Publication) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == raw.stat().st_dev:
        pytest.skip("needs two disks")
    published, plain = publication
    target = shared_memory / f"pcam-agreement-{os.getpid()}"
    target.mkdir()
    try:
        assert write(target, raw, {"c.csv": published["c.csv"]}) == {"c.csv": plain["c.csv"]}
    finally:
        shutil.rmtree(target)

import hashlib
import json
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from conftest import ROOT
from pcam_agreement.data.pcam import CONTENTS, META_COLUMNS, SPLITS, read_split, write_split
from pcam_agreement.data.sources import pcam as pcam_source
from pcam_agreement.data.sources.pcam import PUBLISHED, Published
from pcam_agreement.pipeline import fetch


def arguments(folder: Path, source: str, **settings: object) -> Namespace:
    """Arguments of the stage, with the repository's parameters but for this source of data."""
    raw = YAML(typ="safe").load(ROOT / "params.yaml")
    raw["data"]["source"] = source
    raw["data"][source].update(settings)
    with open(folder / "params.yaml", "w") as file:
        YAML(typ="safe").dump(raw, file)
    return Namespace(params=folder / "params.yaml", out=folder / "data" / "patches")


def pictures(root: Path) -> Path:
    for label in ("0", "1"):
        (root / label).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (96, 96), (i, 0, int(label))).save(root / label / f"{i}.png")
    return root


def publish(folder: Path, monkeypatch: pytest.MonkeyPatch, flipped: int) -> None:
    """Publish a small PCam into a folder of downloads; the labels of this many test patches differ from meta."""
    folder.mkdir()
    published = {}
    for split in SPLITS:
        labels = np.array([0, 1, 0, 1], np.uint8)
        meta = pd.DataFrame({column: labels.astype(bool) for column in META_COLUMNS})
        meta.loc[: flipped - 1, "center_tumor_patch"] ^= split == "test"
        meta["wsi"] = [f"{split} {slide}" for slide in range(4)]
        patches = np.random.default_rng(len(split)).integers(0, 256, (4, 96, 96, 3), np.uint8)
        write_split(folder, split, [patches * (split != "valid")], labels, meta)
    for path in sorted(folder.iterdir()):
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        published[path.name] = Published(path.stat().st_size, md5, md5)
    assert set(published) == set(PUBLISHED)
    monkeypatch.setattr(pcam_source, "PUBLISHED", published)


def test_the_stage_describes_what_it_fetched(tmp_path: Path, capsys) -> None:
    args = arguments(tmp_path, "folder", path=str(pictures(tmp_path / "images")))
    partial = args.out.with_name("patches.partial")
    partial.mkdir(parents=True)
    (partial / "left over").write_text("by a run that was killed")
    fetch.main(args)
    contents = json.loads((args.out / CONTENTS).read_text())
    assert (contents["source"], contents["title"], contents["synthetic"]) == ("folder", "Image folder", False)
    assert contents["splits"]["train"] == {"patches": 6, "tumour": 3, "slides": 6, "label_differs_from_meta": 0}
    assert set(contents["files"]) | {CONTENTS} == {path.name for path in args.out.iterdir()}
    captured = capsys.readouterr()
    assert [line.split() for line in captured.out.splitlines()] == [
        [name, str(n), "patches", str(n // 2), "tumour", str(n), "slides", "0", "repeated"]
        for name, n in (("train", 6), ("valid", 2), ("test", 2))
    ]
    assert "WARNING" not in captured.err


def test_an_earlier_output_is_replaced(tmp_path: Path) -> None:
    args = arguments(tmp_path, "folder", path=str(pictures(tmp_path / "images")))
    args.out.mkdir(parents=True)
    (args.out / "earlier").write_text("")
    fetch.main(args)
    assert not (args.out / "earlier").exists() and (args.out / CONTENTS).exists()
    assert [path.name for path in args.out.parent.iterdir()] == ["patches"]


def test_a_stage_that_fails_leaves_the_output_as_it_was(tmp_path: Path) -> None:
    args = arguments(tmp_path, "folder", path=str(tmp_path / "absent"))
    args.out.mkdir(parents=True)
    (args.out / "earlier").write_text("")
    with pytest.raises(ValueError, match=r"absent is not a folder; set it"):
        fetch.main(args)
    assert (args.out / "earlier").exists()
    assert [path.name for path in args.out.parent.iterdir()] == ["patches"]


@pytest.mark.parametrize("flipped", [0, 3])
def test_labels_that_differ_from_meta_give_a_warning(tmp_path: Path, monkeypatch, capsys, flipped: int) -> None:
    publish(tmp_path / "raw", monkeypatch, flipped)
    args = arguments(tmp_path, "pcam", directory=str(tmp_path / "raw"))
    fetch.main(args)
    warning = f"WARNING: the label of {flipped} patches differs from center_tumor_patch in meta.\n"
    assert capsys.readouterr().err == (warning if flipped else "")
    contents = json.loads((args.out / CONTENTS).read_text())
    assert contents["splits"]["test"]["label_differs_from_meta"] == flipped
    assert read_split(args.out, "test").labels.tolist() == [0, 1, 0, 1]


def test_patches_and_slides_that_two_splits_share_give_a_warning(tmp_path: Path, capsys) -> None:
    """Folders train and test with the same picture twice: once in a class, once in both splits."""
    root = tmp_path / "images"
    for number, split in enumerate(("train", "valid", "test")):
        pictures(root / split)
        for label in ("0", "1"):
            for i in range(5):
                Image.new("RGB", (96, 96), (i, number, int(label))).save(root / split / label / f"{i}.png")
    shutil.copy(root / "train" / "0" / "3.png", root / "test" / "0" / "3.png")
    shutil.copy(root / "train" / "1" / "1.png", root / "train" / "1" / "9.png")
    args = arguments(tmp_path, "folder", path=str(root))
    fetch.main(args)
    captured = capsys.readouterr()
    warnings = [line for line in captured.err.splitlines() if "WARNING" in line]
    assert warnings == ["WARNING: 1 patches of test are in train too: scores on test are too good."]
    assert [line.split()[-2] for line in captured.out.splitlines()] == ["1", "0", "0"]
    audited = json.loads((args.out / CONTENTS).read_text())["audit"]
    assert audited["shared"]["train, test"] == {"patches": 1, "slides": 0}
    assert audited["splits"]["train"]["repeated"] == 1

"""Kaggle's layout: the patches, labels and splits that come out, and a sentence for what is wrong with it."""

import os
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import ROOT
from pcam_agreement.data.pcam import SPLITS, read_split
from pcam_agreement.data.sources import kaggle
from pcam_agreement.data.sources.kaggle import Settings

REAL = ROOT.parent / "shared" / "pcam-kaggle"
COUNT = 40


def settings(path: Path | None, ids: Path | None = None, slides: Path | None = None, **fractions: float) -> Settings:
    values = {"path": path and str(path), "ids": ids and str(ids), "slides": slides and str(slides)}
    return Settings.model_validate({**values, "fractions": fractions or {"train": 0.5, "valid": 0.25, "test": 0.25}})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Forty patches with names and labels like Kaggle's; every second one is tumour."""
    (tmp_path / "kaggle" / "train").mkdir(parents=True)
    rows = []
    for number in range(COUNT):
        name = f"{number:x>40d}"
        Image.fromarray(pixels(number)).save(tmp_path / "kaggle" / "train" / f"{name}.tif")
        rows.append({"id": name, "label": number % 2})
    pd.DataFrame(rows).to_csv(tmp_path / "kaggle" / "train_labels.csv", index=False)
    return tmp_path / "kaggle"


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PCAM_AGREEMENT_WORK", str(tmp_path / "work"))
    (tmp_path / "patches").mkdir()
    return tmp_path / "patches"


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (96, 96, 3), np.uint8)


def numbers(out: Path) -> dict[str, list[int]]:
    """Which patches are in each split, after their pixels and labels were compared."""
    result = {}
    for name in SPLITS:
        split = read_split(out, name)
        result[name] = [int(one.lstrip("x")) for one in split.meta["wsi"]]
        assert split.labels.tolist() == [number % 2 for number in result[name]]
        assert all((patch == pixels(number)).all() for patch, number in zip(split.patches, result[name], strict=True))
    return result


def test_patches_are_divided_by_label_and_seed_and_none_is_in_two_splits(source, out, capsys):
    kaggle.write(out, settings(source), 0)
    of_split = numbers(out)
    assert {name: len(of_split[name]) for name in SPLITS} == {"train": 20, "valid": 10, "test": 10}
    assert sorted(number for ids in of_split.values() for number in ids) == list(range(COUNT))
    assert all(sum(number % 2 for number in of_split[name]) == len(of_split[name]) / 2 for name in SPLITS)
    assert "patches of one slide may be" in capsys.readouterr().err
    kaggle.write(out, settings(source), 1)
    assert numbers(out) != of_split


def test_ids_choose_the_patches_their_splits_and_their_order(source, out):
    chosen = {"train": [7, 2, 30, 5], "valid": [1, 0], "test": [38, 9, 3]}
    rows = [{"id": f"{number:x>40d}", "split": name} for name in SPLITS for number in chosen[name]]
    pd.DataFrame(rows).to_csv(source / "ids.csv", index=False)
    kaggle.write(out, settings(source, ids=source / "ids.csv"), 0)
    assert numbers(out) == chosen


def test_a_zip_gives_what_its_folder_gives(source, out, tmp_path):
    with ZipFile(tmp_path / "kaggle.zip", "w") as archive:
        for path in sorted(source.rglob("*.*")):
            archive.write(path, path.relative_to(source))
    kaggle.write(out, settings(source), 0)
    of_folder = numbers(out)
    kaggle.write(out, settings(tmp_path / "kaggle.zip"), 0)
    assert numbers(out) == of_folder


def test_what_an_interrupted_run_has_read_is_not_read_again_unless_a_file_changed(source, out, tmp_path):
    names = [f"{number:x>40d}" for number in range(6)]
    table = pd.DataFrame({"id": names, "split": np.repeat(SPLITS, 2)})
    table.to_csv(source / "ids.csv", index=False)
    read, changed, damaged = (source / "train" / f"{name}.tif" for name in names[::2])
    whole = damaged.read_bytes()
    damaged.write_bytes(b"II")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        kaggle.write(out, settings(source, ids=source / "ids.csv"), 0)
    damaged.write_bytes(whole)
    was = read.stat()
    for path in (read, changed):
        Image.fromarray(pixels(99)).save(path)
    os.utime(read, ns=(was.st_atime_ns, was.st_mtime_ns))  # as if it had not been touched
    kaggle.write(out, settings(source, ids=source / "ids.csv"), 0)
    assert (read_split(out, "train").patches[0] == pixels(0)).all()
    assert (read_split(out, "valid").patches[0] == pixels(99)).all()
    assert not list((tmp_path / "work").iterdir())


def test_where_slides_are_known_splits_are_by_slide(source, out):
    table = pd.DataFrame(
        {"id": [f"{number:x>40d}" for number in range(COUNT)], "wsi": [f"s{n // 4}" for n in range(COUNT)]}
    )
    table.to_csv(source / "slides.csv", index=False)
    kaggle.write(out, settings(source, slides=source / "slides.csv"), 0)
    of_split = {name: set(read_split(out, name).meta["wsi"]) for name in SPLITS}
    assert {name: len(slides) for name, slides in of_split.items()} == {"train": 5, "valid": 3, "test": 2}
    assert not of_split["train"] & of_split["valid"] | of_split["train"] & of_split["test"]


def test_what_is_wrong_with_the_files_is_one_sentence(source, out):
    def fails(message: str, **change: Path) -> None:
        with pytest.raises(ValueError, match=message):
            kaggle.write(out, settings(source, **change), 0)

    with pytest.raises(ValueError, match=r"data\.kaggle\.path is null"):
        kaggle.write(out, settings(None), 0)
    labels, good = source / "train_labels.csv", (source / "train_labels.csv").read_text()
    first = f"{0:x>40d}"
    for text, message in (
        (good.replace(f"{first},0", f"{first},2"), f"expected labels 0 and 1, found '2' of {first}"),
        (good + f"{first},1\n", f"{first} is there more than once"),
        ("name,label\na,1\n", "expected the columns id and label"),
        (good + f"{99:x>40d},1\n", f"1 labelled patches have no file, {99:x>40d} first"),
    ):
        labels.write_text(text)
        fails(message)
    labels.unlink()
    fails("expected a CSV of id and label")
    labels.write_text(good)
    (source / "ids.csv").write_text(f"id,split\n{first},training\n")
    fails("expected the splits train, valid, test, found 'training'", ids=source / "ids.csv")
    (source / "ids.csv").write_text("id,split\nabc,train\n")
    fails("1 ids have no label in train_labels.csv, abc first", ids=source / "ids.csv")
    (source / "ids.csv").write_text(f"id,split\n{first},train\n")
    (source / "slides.csv").write_text("id,wsi\nabc,s1\n")
    fails(f"1 patches have no slide, {first} first", ids=source / "ids.csv", slides=source / "slides.csv")
    Image.fromarray(pixels(0)[:50]).save(source / "train" / f"{first}.tif")
    fails("expected 96x96 pixels of RGB, 8 bits, found 96x50, RGB")
    (source / "train" / f"{first}.tif").write_bytes(b"II")
    fails("cannot be read as an image")
    (source / "train" / f"{first}.png").write_bytes(b"")
    fails("1 ids have two files")


@pytest.mark.skipif(not REAL.exists(), reason="the real patches are not here")
def test_real_patches_keep_their_pixels_and_labels(out, tmp_path):
    labels = pd.read_csv(REAL / "train_labels.csv").groupby("label").head(32)
    labels["split"] = np.tile(["train", "train", "valid", "test"], 16)
    labels[["id", "split"]].to_csv(tmp_path / "ids.csv", index=False)
    kaggle.write(out, settings(REAL, ids=tmp_path / "ids.csv"), 0)
    of_id = labels.set_index("id")["label"]
    for name in SPLITS:
        split = read_split(out, name)
        assert split.labels.tolist() == of_id[split.meta["wsi"]].tolist()
        with Image.open(REAL / "train" / f"{split.meta['wsi'][0]}.webp") as image:
            assert (np.asarray(image) == split.patches[0]).all()

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from pcam_agreement.data.pcam import SPLITS, read_split
from pcam_agreement.data.sources import folder as folder_source
from pcam_agreement.data.sources.folder import Settings

SAMPLE = ROOT.parent / "shared" / "pcam-sample"
FRACTIONS = {"train": 0.6, "valid": 0.2, "test": 0.2}


def settings(path: Path | None, **fractions: float) -> Settings:
    return Settings.model_validate({"path": path and str(path), "fractions": fractions or FRACTIONS})


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (96, 96)) -> np.ndarray:
    """Write a random image of this width and height; its pixels [height, width, 3]."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def pictures(root: Path, classes: tuple[str, str] = ("normal", "tumour"), each: int = 10) -> dict[str, np.ndarray]:
    """Class folders of images; the pixels by the image's path without its suffix."""
    return {
        f"{name}/{i}": picture(root / name / f"{i}.png", seed=1000 * label + i)
        for label, name in enumerate(classes)
        for i in range(each)
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "patches").mkdir()
    return tmp_path / "patches"


def names(out: Path) -> dict[str, list[str]]:
    return {name: read_split(out, name).meta["wsi"].tolist() for name in SPLITS}


# ---- what comes out


def test_class_folders_become_splits_of_the_same_patches(root: Path, out: Path, capsys) -> None:
    pixels = pictures(root)
    folder_source.write(out, settings(root), 0)
    seen = []
    for name, size in (("train", 12), ("valid", 4), ("test", 4)):
        split = read_split(out, name)
        assert len(split.labels) == size and split.labels.sum() == size // 2
        for patch, label, (_, row) in zip(split.patches, split.labels, split.meta.iterrows(), strict=True):
            np.testing.assert_array_equal(patch, pixels[row.wsi])
            assert label == row.wsi.startswith("tumour") == row.center_tumor_patch == row.tumor_patch
            assert (row.coord_y, row.coord_x) == (0, 0)
            seen.append(row.wsi)
    assert sorted(seen) == sorted(pixels)  # every image in one split, once
    told = capsys.readouterr().err
    assert "normal is normal (0), tumour is tumour (1)" in told
    assert "patches of one slide may be on both sides" in told


def test_the_seed_alone_decides_the_division(root: Path, out: Path, tmp_path: Path) -> None:
    pictures(root)
    first, again, other = out, tmp_path / "again", tmp_path / "other"
    for target, seed in ((first, 0), (again, 0), (other, 1)):
        target.mkdir(exist_ok=True)
        folder_source.write(target, settings(root), seed)
    assert all(path.read_bytes() == (again / path.name).read_bytes() for path in first.iterdir())
    assert names(first) != names(other)


def test_given_splits_are_kept(root: Path, out: Path, capsys) -> None:
    for split, each in (("train", 4), ("val", 3), ("test", 2)):
        pictures(root / split, ("0", "1"), each)
    folder_source.write(out, settings(root), 0)
    assert {name: len(wsi) for name, wsi in names(out).items()} == {"train": 8, "valid": 6, "test": 4}
    assert all(wsi.startswith("val/") for wsi in names(out)["valid"])
    assert "divided at random" not in capsys.readouterr().err


def test_images_may_lie_deeper_and_other_files_beside_them(root: Path, out: Path) -> None:
    pictures(root)
    picture(root / "tumour" / "slide 7" / "deep.TIF")
    (root / "README.md").write_text("not an image")
    (root / "tumour" / "Thumbs.db").write_text("nor this")
    (root / ".cache").mkdir()
    folder_source.write(out, settings(root), 0)
    assert any("tumour/slide 7/deep" in wsi for wsi in names(out).values())


def test_splits_are_shuffled(root: Path, out: Path) -> None:
    pictures(root, each=40)
    folder_source.write(out, settings(root), 0)
    labels = read_split(out, "train").labels
    assert 0 < labels[:12].sum() < 12


def test_many_images_are_written_in_blocks(root: Path, out: Path, monkeypatch) -> None:
    monkeypatch.setattr(folder_source, "BLOCK", 5)
    pixels = pictures(root)
    folder_source.write(out, settings(root), 0)
    split = read_split(out, "train")
    for patch, wsi in zip(split.patches, split.meta["wsi"], strict=True):
        np.testing.assert_array_equal(patch, pixels[wsi])


@pytest.mark.parametrize("each", range(3, 12))
def test_every_split_has_both_classes(root: Path, out: Path, each: int) -> None:
    pictures(root, each=each)
    folder_source.write(out, settings(root, train=0.8, valid=0.1, test=0.1), 0)
    for name in SPLITS:
        assert set(read_split(out, name).labels) == {0, 1}


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of real patches is not here")
def test_real_patches_named_by_label_keep_their_bytes(out: Path) -> None:
    folder_source.write(out, settings(SAMPLE), 0)
    splits = [read_split(out, name) for name in SPLITS]
    assert [(len(split.labels), int(split.labels.sum())) for split in splits] == [(20, 8), (6, 2), (6, 2)]
    for split in splits:
        for patch, label, wsi in zip(split.patches, split.labels, split.meta["wsi"], strict=True):
            assert label == int(wsi[0])
            with Image.open(SAMPLE / f"{wsi}.tif") as image:
                np.testing.assert_array_equal(patch, np.asarray(image))


# ---- sizes and colours


def test_a_large_image_is_cropped_to_its_centre_and_resized_smoothly(tmp_path: Path) -> None:
    wide = np.zeros((192, 400, 3), np.uint8)
    wide[:, 104:296] = 255  # the square at the centre is white
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (folder_source.read_patch(tmp_path / "wide.png") == 255).all()
    board = (np.indices((960, 960)).sum(0) % 2 * 255).astype(np.uint8)  # finer than a patch can show
    Image.fromarray(board).save(tmp_path / "board.png")
    patch = folder_source.read_patch(tmp_path / "board.png")
    assert patch.shape == (96, 96, 3) and abs(patch.astype(int) - 127).max() < 10  # anti-aliased to grey


def test_a_border_around_96_pixels_is_cropped_without_resizing(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "tall.png", size=(96, 120))
    np.testing.assert_array_equal(folder_source.read_patch(tmp_path / "tall.png"), pixels[12:108])


def test_a_small_image_is_enlarged(tmp_path: Path) -> None:
    picture(tmp_path / "small.png", size=(32, 32))
    assert folder_source.read_patch(tmp_path / "small.png").shape == (96, 96, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_other_kinds_of_colour_become_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (96, 96), "white").convert(mode).save(tmp_path / "a.tif")
    patch = folder_source.read_patch(tmp_path / "a.tif")
    assert patch.shape == (96, 96, 3) and patch.dtype == np.uint8 and (patch == 255).all()


def test_an_image_of_16_bits_is_told(tmp_path: Path) -> None:
    Image.fromarray(np.full((96, 96), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png cannot be read as an image \(expected 8 bits a channel, found"):
        folder_source.read_patch(tmp_path / "deep.png")


def test_an_unreadable_image_is_named(root: Path, out: Path) -> None:
    pictures(root)
    whole = (root / "tumour" / "3.png").read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        (root / "tumour" / "3.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"tumour/3\.png cannot be read as an image \(.+\); mend or remove it\."):
            folder_source.write(out, settings(root), 0)


# ---- layouts that are not understood


def refused(root: Path | None, out: Path, sentence: str, **fractions: float) -> None:
    with pytest.raises(ValueError, match=sentence):
        folder_source.write(out, settings(root, **fractions), 0)


def test_no_path_is_told(out: Path) -> None:
    refused(None, out, "data.folder.path is null; set it to the folder of your images")


def test_a_missing_folder_is_told(root: Path, out: Path) -> None:
    refused(root / "absent", out, "images/absent is not a folder; set it to the folder of your images")


def test_an_empty_folder_is_told(root: Path, out: Path) -> None:
    refused(root, out, "images holds no images; expected .png, .jpg")


def test_empty_class_folders_are_told(root: Path, out: Path) -> None:
    (root / "0").mkdir()
    (root / "1").mkdir()
    refused(root, out, "images holds no images")
    picture(root / "0" / "a.png")
    refused(root, out, "expected images of both classes, found none in 1")


def test_one_class_is_told(root: Path, out: Path) -> None:
    picture(root / "tumour" / "a.png")
    refused(root, out, "expected two class folders, normal and tumour, found 1: tumour")


def test_three_classes_are_told(root: Path, out: Path) -> None:
    pictures(root)
    picture(root / "unsure" / "a.png")
    refused(root, out, "expected two class folders, normal and tumour, found 3: normal, tumour, unsure")


def test_names_of_one_label_are_told(root: Path, out: Path) -> None:
    for i in range(5):
        picture(root / f"0_{i}.png")
    refused(root, out, "expected images of both classes, found none named 1_")


def test_a_name_without_a_label_is_told(root: Path, out: Path) -> None:
    picture(root / "0_a.png")
    picture(root / "a.png")
    refused(root, out, "images/a.png: expected a name that begins with 0_ or 1_, or two class folders")


def test_images_beside_class_folders_are_told(root: Path, out: Path) -> None:
    pictures(root)
    picture(root / "0_a.png")
    refused(root, out, "0_a.png is beside the class folders normal and tumour; move it into one of them")


@pytest.mark.parametrize("classes", [("malignant", "normal"), ("Cancer", "healthy")])
def test_classes_whose_order_would_swap_the_labels_are_told(root: Path, out: Path, classes: tuple[str, str]) -> None:
    pictures(root, classes)
    refused(root, out, f"'{classes[0]}' would be normal and '{classes[1]}' tumour; rename them")


def test_a_missing_split_is_told(root: Path, out: Path) -> None:
    pictures(root / "train")
    pictures(root / "test")
    refused(root, out, "expected the folders train, valid and test; valid missing")


def test_two_folders_of_one_split_are_told(root: Path, out: Path) -> None:
    for split in ("train", "val", "valid", "test"):
        pictures(root / split, each=1)
    refused(root, out, "both val and valid are there; keep one of them")


def test_class_folders_that_differ_between_splits_are_told(root: Path, out: Path) -> None:
    pictures(root / "train", ("0", "1"), 1)
    pictures(root / "valid", ("0", "1"), 1)
    pictures(root / "test", ("normal", "tumour"), 1)
    refused(root, out, "the class folders differ between the splits: .*; name them alike")


def test_too_few_images_for_three_splits_are_told(root: Path, out: Path) -> None:
    pictures(root, each=2)
    refused(root, out, "2 images of class 0 are too few for train, valid and test .*; add images or change")


def test_fractions_that_do_not_add_up_are_told(root: Path, out: Path) -> None:
    pictures(root)
    refused(root, out, "expected a sum of 1, found 0.9", train=0.7, valid=0.1, test=0.1)

"""Image files of your own in class folders, with or without splits, as patches in PCam's files."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pcam_agreement.core.patch import PATCH
from pcam_agreement.core.settings import Fraction
from pcam_agreement.core.settings import Settings as Block
from pcam_agreement.data.pcam import SPLITS, write_split

TITLE = "Image folder"
DESCRIPTION = "your own images in class folders"
SYNTHETIC = False

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
SPLIT_FOLDERS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
TUMOUR_WORDS = ("tumour", "tumor", "cancer", "malignant", "metastasis", "metastatic", "positive", "pos")
BLOCK = 256  # patches in memory at once

Entry = tuple[Path, int]  # an image file and its label


class SplitFractions(Block):
    train: Fraction
    valid: Fraction
    test: Fraction


class Settings(Block):
    path: str | None
    fractions: SplitFractions  # used where the folder has no train/valid/test


def write(folder: Path, settings: Settings, seed: int) -> None:
    """Write the images below settings.path as the three splits of PCam's layout.

    Labels come from two class folders (in alphabetical order normal, 0, and tumour, 1; images may lie at any depth in
    them) or from files named `0_….png` and `1_….png`. Splits come from folders train, valid (val, validation) and test
    above those, or from a random division of each class by settings.fractions. Every split is shuffled with the seed.

    An image of 96x96 keeps its pixels; another is cropped to the square at its centre and resized (bicubic). Slides
    and coordinates are unknown: meta gives every patch a slide of its own, named as its file, at (0, 0), and the same
    value in tumor_patch and center_tumor_patch.

    Raises ValueError where the folder is missing or not laid out so, and where an image cannot be read.
    """
    if settings.path is None:
        raise ValueError("data.folder.path is null; set it to the folder of your images.")
    root = Path(settings.path).expanduser()
    if not root.is_dir():
        raise ValueError(f"data.folder.path: {root} is not a folder; set it to the folder of your images.")
    generator = np.random.default_rng(seed)
    splits = _existing_splits(root) or _random_splits(root, settings.fractions, generator)
    for name in SPLITS:
        entries = [splits[name][number] for number in generator.permutation(len(splits[name]))]
        labels = np.array([label for _, label in entries], np.uint8)
        meta = pd.DataFrame(
            {
                "coord_y": 0,
                "coord_x": 0,
                "tumor_patch": labels.astype(bool),
                "center_tumor_patch": labels.astype(bool),
                "wsi": [path.relative_to(root).with_suffix("").as_posix() for path, _ in entries],
            }
        )
        write_split(folder, name, _blocks([path for path, _ in entries]), labels, meta)


def read_patch(path: Path) -> np.ndarray:
    """An image file as a patch: uint8 [96, 96, 3]. Raises ValueError where it cannot be read."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"expected 8 bits a channel, found the mode {image.mode}")
            rgb = image.convert("RGB")
    except Exception as error:  # Pillow's readers raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read as an image ({reason}); mend or remove it.") from error
    side = min(rgb.size)
    left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
    square = rgb.crop((left, top, left + side, top + side))
    if side != PATCH:
        square = square.resize((PATCH, PATCH), Image.Resampling.BICUBIC)
    return np.asarray(square)


def _blocks(paths: list[Path]) -> Iterator[np.ndarray]:
    for start in range(0, len(paths), BLOCK):
        yield np.stack([read_patch(path) for path in paths[start : start + BLOCK]])  # [n, 96, 96, 3]


def _existing_splits(root: Path) -> dict[str, list[Entry]] | None:
    """The splits in folders of that name, or None where there are no such folders."""
    folders: dict[str, Path] = {}
    for path in _folders(root):
        name = SPLIT_FOLDERS.get(path.name.lower())
        if name in folders:
            raise ValueError(f"{root}: both {folders[name].name} and {path.name} are there; keep one of them.")
        if name:
            folders[name] = path
    if not folders:
        return None
    missing = [name for name in SPLITS if name not in folders]
    if missing:
        raise ValueError(f"{root}: expected the folders train, valid and test; {' and '.join(missing)} missing.")
    classes = {name: _classes(folders[name]) for name in SPLITS}
    if len(set(classes.values())) > 1:
        raise ValueError(f"{root}: the class folders differ between the splits: {classes}; name them alike.")
    _report_classes(classes["train"])
    return {name: _labelled(folders[name], classes[name]) for name in SPLITS}


def _random_splits(root: Path, fractions: SplitFractions, generator: np.random.Generator) -> dict[str, list[Entry]]:
    """A random division of each class; raises ValueError where a split would be left without one of them."""
    fraction_of = fractions.model_dump()
    if not np.isclose(sum(fraction_of.values()), 1):
        raise ValueError(f"data.folder.fractions: expected a sum of 1, found {sum(fraction_of.values()):g}.")
    classes = _classes(root)
    entries = _labelled(root, classes)
    _report_classes(classes)
    print(
        f"{root}: no folders train, valid and test, so patches are divided at random; "
        "patches of one slide may be on both sides.",
        file=sys.stderr,
    )
    splits: dict[str, list[Entry]] = {name: [] for name in SPLITS}
    for label in (0, 1):
        of_class = [entry for entry in entries if entry[1] == label]
        valid, test = (max(1, round(fraction_of[name] * len(of_class))) for name in ("valid", "test"))
        if valid + test >= len(of_class):
            raise ValueError(
                f"{root}: {len(of_class)} images of class {label} are too few for train, valid and test in the "
                f"proportions of data.folder.fractions; add images or change the fractions."
            )
        order = generator.permutation(len(of_class))
        for name, numbers in zip(SPLITS, np.split(order, [-valid - test, -test]), strict=True):
            splits[name] += [of_class[number] for number in numbers]
    return splits


def _classes(folder: Path) -> tuple[str, ...]:
    """The names of the two class folders, normal first; empty where the files' names hold the labels."""
    names = tuple(path.name for path in _folders(folder))
    if len(names) not in (0, 2):
        raise ValueError(
            f"{folder}: expected two class folders, normal and tumour, found {len(names)}: {', '.join(names)}."
        )
    if names and names[0].lower() in TUMOUR_WORDS and names[1].lower() not in TUMOUR_WORDS:
        raise ValueError(
            f"{folder}: in alphabetical order '{names[0]}' would be normal and '{names[1]}' tumour; "
            "rename them, for instance to 0 and 1."
        )
    return names


def _labelled(folder: Path, classes: tuple[str, ...]) -> list[Entry]:
    top_level = sorted(path for path in folder.iterdir() if _is_image(path))
    if classes and top_level:
        raise ValueError(
            f"{top_level[0]} is beside the class folders {' and '.join(classes)}; move it into one of them."
        )
    entries: list[Entry] = []
    for label, name in enumerate(classes):
        entries += [(path, label) for path in _images(folder / name)]
    for path in top_level:
        if not re.match("[01]_", path.name):
            raise ValueError(f"{path}: expected a name that begins with 0_ or 1_, or two class folders in {folder}.")
        entries.append((path, int(path.name[0])))
    if not entries:
        raise ValueError(f"{folder} holds no images; expected {', '.join(IMAGES)}.")
    for label in (0, 1):
        if not any(entry[1] == label for entry in entries):
            where = f"in {classes[label]}" if classes else f"named {label}_…"
            raise ValueError(f"{folder}: expected images of both classes, found none {where}.")
    return entries


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _images(folder: Path) -> list[Path]:
    walk = os.walk(folder, followlinks=True)
    return sorted(path for parent, _, names in walk for path in map(Path(parent).joinpath, names) if _is_image(path))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES and not path.name.startswith(".") and path.is_file()


def _report_classes(classes: tuple[str, ...]) -> None:
    if classes:
        print(f"class folders: {classes[0]} is normal (0), {classes[1]} is tumour (1).", file=sys.stderr)

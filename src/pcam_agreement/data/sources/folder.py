"""Patches of one's own, as image files in folders, brought into PCam's files."""

from __future__ import annotations

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
from pcam_agreement.core.settings import Settings as _Settings
from pcam_agreement.data.pcam import SPLITS, write_split

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
SPLIT_FOLDERS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
TUMOUR_WORDS = ("tumour", "tumor", "cancer", "malignant", "metastasis", "metastatic", "positive", "pos")
BLOCK = 256  # patches held in memory at once

Entry = tuple[Path, int]  # an image file and its label

TITLE = "Image folder"
DESCRIPTION = "your own images in class folders"
SYNTHETIC = False


class SplitFractions(_Settings):
    train: Fraction
    valid: Fraction
    test: Fraction


class Settings(_Settings):
    path: str | None
    fractions: SplitFractions  # used where the folder has no train/valid/test


def write(folder: Path, settings: Settings, seed: int) -> None:
    """Write the images below settings.path as the three splits of PCam's layout.

    Where the labels come from: two class folders (the first by name is normal, 0, the second tumour, 1; images may
    lie at any depth in them), or files named `0_….png` and `1_….png`. Where the splits come from: folders train,
    valid (val, validation) and test above those, or else a random division of each class by settings.fractions.
    Every split is shuffled with the seed, so that its first patches are of both classes.

    An image of another size is cropped to the square at its centre and resized with a bicubic filter; one of 96x96
    keeps its bytes. Slides and places are unknown: in meta each patch is its own slide, named as its file, at (0, 0),
    and tumour anywhere means tumour in the centre.

    Raises ValueError where the folder is missing or not laid out so, and where an image cannot be read.
    """
    if settings.path is None:
        raise ValueError("data.folder.path is null; set it to the folder of your images.")
    root = Path(settings.path).expanduser()
    if not root.is_dir():
        raise ValueError(f"data.folder.path: {root} is not a folder; set it to the folder of your images.")
    generator = np.random.default_rng(seed)
    splits = _given(root) or _divided(root, settings.fractions, generator)
    for name in SPLITS:
        entries = [splits[name][place] for place in generator.permutation(len(splits[name]))]
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


def _given(root: Path) -> dict[str, list[Entry]] | None:
    """The splits that the user made, or None where there are no such folders."""
    found: dict[str, Path] = {}
    for path in _folders(root):
        name = SPLIT_FOLDERS.get(path.name.lower())
        if name in found:
            raise ValueError(f"{root}: both {found[name].name} and {path.name} are there; keep one of them.")
        if name:
            found[name] = path
    if not found:
        return None
    missing = [name for name in SPLITS if name not in found]
    if missing:
        raise ValueError(f"{root}: expected the folders train, valid and test; {' and '.join(missing)} missing.")
    classes = {name: _classes(found[name]) for name in SPLITS}
    if len(set(classes.values())) > 1:
        raise ValueError(f"{root}: the class folders differ between the splits: {classes}; name them alike.")
    _say_classes(classes["train"])
    return {name: _labelled(found[name], classes[name]) for name in SPLITS}


def _divided(root: Path, fractions: SplitFractions, generator: np.random.Generator) -> dict[str, list[Entry]]:
    """A random division of each class; raises ValueError where a split would be left without one of them."""
    shares = fractions.model_dump()
    if not np.isclose(sum(shares.values()), 1):
        raise ValueError(f"data.folder.fractions: expected a sum of 1, found {sum(shares.values()):g}.")
    classes = _classes(root)
    entries = _labelled(root, classes)
    _say_classes(classes)
    print(
        f"{root}: no folders train, valid and test, so patches are divided at random; "
        "patches of one slide may be on both sides.",
        file=sys.stderr,
    )
    splits: dict[str, list[Entry]] = {name: [] for name in SPLITS}
    for label in (0, 1):
        of_class = [entry for entry in entries if entry[1] == label]
        valid, test = (max(1, round(shares[name] * len(of_class))) for name in ("valid", "test"))
        if valid + test >= len(of_class):
            raise ValueError(
                f"{root}: {len(of_class)} images of class {label} are too few for train, valid and test in the "
                f"proportions of data.folder.fractions; add images or change the fractions."
            )
        order = generator.permutation(len(of_class))
        for name, places in zip(SPLITS, np.split(order, [-valid - test, -test]), strict=True):
            splits[name] += [of_class[place] for place in places]
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
            f"{folder}: class folders are taken by name, so '{names[0]}' would be normal and '{names[1]}' tumour; "
            "rename them, for instance to 0 and 1."
        )
    return names


def _labelled(folder: Path, classes: tuple[str, ...]) -> list[Entry]:
    loose = sorted(path for path in folder.iterdir() if _is_image(path))
    if classes and loose:
        raise ValueError(f"{loose[0]} lies beside the class folders {' and '.join(classes)}; move it into one of them.")
    entries: list[Entry] = []
    for label, name in enumerate(classes):
        entries += [(path, label) for path in _images(folder / name)]
    for path in loose:
        if not re.match("[01]_", path.name):
            raise ValueError(f"{path}: expected a name that begins with 0_ or 1_, or two class folders in {folder}.")
        entries.append((path, int(path.name[0])))
    if not entries:
        raise ValueError(f"{folder} holds no images; expected {', '.join(IMAGES)}.")
    for label in (0, 1):
        if not any(entry[1] == label for entry in entries):
            what = f"in {classes[label]}" if classes else f"named {label}_…"
            raise ValueError(f"{folder}: expected images of both classes, found none {what}.")
    return entries


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _images(folder: Path) -> list[Path]:
    walk = os.walk(folder, followlinks=True)
    return sorted(path for at, _, names in walk for path in map(Path(at).joinpath, names) if _is_image(path))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES and not path.name.startswith(".") and path.is_file()


def _say_classes(classes: tuple[str, ...]) -> None:
    if classes:
        print(f"class folders: {classes[0]} is normal (0), {classes[1]} is tumour (1).", file=sys.stderr)

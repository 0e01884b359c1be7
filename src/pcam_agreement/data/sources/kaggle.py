"""Kaggle's "Histopathologic Cancer Detection", PatchCamelyon without its repeats, as patches in PCam's files."""

import hashlib
import io
import sys
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from pcam_agreement.core import resume
from pcam_agreement.core.files import atomic_file
from pcam_agreement.core.patch import PATCH
from pcam_agreement.core.settings import Settings as Block
from pcam_agreement.data.pcam import SPLITS, write_split
from pcam_agreement.data.processes import in_order, pool_of_processes
from pcam_agreement.data.sources.folder import SplitFractions

TITLE = "Kaggle's PatchCamelyon"
DESCRIPTION = "PatchCamelyon as Kaggle gives it, without repeats and slides"
SYNTHETIC = False

LABELS = "train_labels.csv"
FOLDER = "train"
BLOCK = 256  # patches that a process reads at once


class Settings(Block):
    path: str | None  # a folder with train/<id>.tif and train_labels.csv, or the zip of one
    ids: str | None  # a CSV of id and split (train, valid, test): these patches alone, in this order
    slides: str | None  # a CSV of id and slide
    fractions: SplitFractions  # of the patches, or of the slides where they are known; where there are no ids


def write(folder: Path, settings: Settings, seed: int) -> None:
    """Write the labelled patches below settings.path as the three splits of PCam's layout.

    Files are train/<id>.<any suffix that Pillow reads>, 96x96 with 8 bits. Splits are those of settings.ids; else
    slides, where they are known, or the patches of each label are divided at random with the seed. Without slides, meta
    gives every patch a slide of its own, named as its id, and tumor_patch, which Kaggle does not say, is that of the
    centre. An interrupted run goes on behind the blocks of patches that it has read.

    Raises ValueError where a file is missing or not as it should be.
    """
    if settings.path is None:
        raise ValueError("data.kaggle.path is null; set it to the folder, or the zip, that Kaggle gives.")
    source = Path(settings.path).expanduser()
    labels, files = _labels(source), _files(source)
    slides = None if settings.slides is None else _column(Path(settings.slides), "slide", labels.index)
    if settings.ids is not None:
        given = _column(Path(settings.ids), "split", labels.index)
        if unknown := sorted(set(given) - set(SPLITS)):
            raise ValueError(f"{settings.ids}: expected the splits {', '.join(SPLITS)}, found '{unknown[0]}'; mend it.")
        splits = {name: given.index[given == name] for name in SPLITS}
    else:
        splits = _divided(labels, slides, settings.fractions, np.random.default_rng(seed))
    for name, ids in splits.items():
        missing = [one for one in ids if one not in files]
        if missing:
            raise ValueError(
                f"{source}: {len(missing)} labelled patches have no file, {missing[0]} first; unpack it again."
            )
        if slides is not None and len(without := ids.difference(slides.index)):
            raise ValueError(f"{settings.slides}: {len(without)} patches have no slide, {without[0]} first; add them.")
        if set(labels[ids]) != {0, 1}:
            raise ValueError(f"{source}: expected patches of both labels in {name}, found {len(ids)}; choose others.")
    work = resume.folder("fetch-kaggle", str(source.resolve()))
    with pool_of_processes() as pool:
        for name, ids in splits.items():
            meta = pd.DataFrame(
                {
                    "coord_y": 0,
                    "coord_x": 0,
                    "tumor_patch": labels[ids].to_numpy(bool),
                    "center_tumor_patch": labels[ids].to_numpy(bool),
                    "wsi": list(ids if slides is None else slides[ids]),
                }
            )
            paths = [files[one] for one in ids]
            blocks = [(work, source, paths[start : start + BLOCK]) for start in range(0, len(paths), BLOCK)]
            progress = tqdm(
                in_order(pool, _kept, blocks),
                f"Kaggle {name}",
                len(blocks),
                unit="block",
                disable=None,
            )
            write_split(folder, name, progress, labels[ids].to_numpy(np.uint8), meta)
    resume.remove(work)


def _labels(source: Path) -> pd.Series:
    """Label by id, in the order of train_labels.csv."""
    labels = _column(source / LABELS if source.is_dir() else source, "label", None)
    wrong = labels[~labels.isin(["0", "1"])]
    if len(wrong):
        raise ValueError(f"{LABELS}: expected labels 0 and 1, found '{wrong.iloc[0]}' of {wrong.index[0]}; mend it.")
    return labels.astype(np.uint8)


def _column(path: Path, what: str, known: pd.Index | None) -> pd.Series:
    """The second column of a CSV by its first, the ids, as text; ValueError where an id is there twice or not known."""
    try:
        if path.suffix == ".zip":
            with ZipFile(path) as archive:
                table = pd.read_csv(io.BytesIO(archive.read(LABELS)), dtype=str)
        else:
            table = pd.read_csv(path, dtype=str)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ValueError(f"{path}: expected a CSV of id and {what} ({error}); give another path.") from error
    if table.shape[1] < 2 or table.columns[0] != "id" or table.iloc[:, :2].isna().any(axis=None):
        raise ValueError(f"{path}: expected the columns id and {what}, without gaps, found {list(table.columns)}.")
    column = table.set_index("id").iloc[:, 0]
    if column.index.has_duplicates:
        raise ValueError(f"{path}: {column.index[column.index.duplicated()][0]} is there more than once; keep one row.")
    if known is not None and len(unknown := column.index.difference(known)) and what == "split":
        raise ValueError(f"{path}: {len(unknown)} ids have no label in {LABELS}, {unknown[0]} first; mend one of them.")
    return column


def _files(source: Path) -> dict[str, str]:
    """The name of each patch's file by its id; in an archive its member."""
    if source.is_dir():
        names = [f"{FOLDER}/{path.name}" for path in (source / FOLDER).glob("*.*")]
    else:
        with ZipFile(source) as archive:
            names = [name for name in archive.namelist() if name.startswith(f"{FOLDER}/") and not name.endswith("/")]
    files = {Path(name).stem: name for name in sorted(names)}
    if len(files) < len(names):
        raise ValueError(f"{source}/{FOLDER}: {len(names) - len(files)} ids have two files; keep one of each.")
    return files


def _divided(
    labels: pd.Series, slides: pd.Series | None, fractions: SplitFractions, random: np.random.Generator
) -> dict[str, pd.Index]:
    """A random division: of the slides, or of the patches of each label."""
    shares = fractions.model_dump()
    if not np.isclose(sum(shares.values()), 1):
        raise ValueError(f"data.kaggle.fractions: expected a sum of 1, found {sum(shares.values()):g}.")
    if slides is None:
        print(
            "the slides of Kaggle's patches are unknown: they are divided at random, and patches of one slide may be "
            "on both sides; results may be optimistic.",
            file=sys.stderr,
        )
        groups = [labels.index[labels == label] for label in (0, 1)]
    else:
        groups = [pd.Index(sorted(set(slides)))]
    chosen: dict[str, list[str]] = {name: [] for name in SPLITS}
    for group in groups:
        ends = np.round(np.cumsum([shares[name] for name in SPLITS])[:-1] * len(group)).astype(int)
        for name, part in zip(SPLITS, np.split(random.permutation(group.to_numpy()), ends), strict=True):
            chosen[name] += list(part)
    if slides is not None:
        of_slide = slides[slides.index.isin(labels.index)]
        chosen = {name: list(of_slide.index[of_slide.isin(parts)]) for name, parts in chosen.items()}
    return {name: pd.Index(random.permutation(np.array(ids, object))) for name, ids in chosen.items()}


def _kept(work: Path, source: Path, names: list[str]) -> np.ndarray:
    """As `_read`; the block is kept in the folder `work` for as long as its files are what they were."""
    found = [(source / name if source.is_dir() else source).stat() for name in names]
    identity = repr([(name, file.st_size, file.st_mtime_ns) for name, file in zip(names, found, strict=True)])
    path = work / f"{hashlib.sha256(identity.encode()).hexdigest()}.npy"
    if path.exists():
        return np.load(path, allow_pickle=False)
    patches = _read(source, names)
    with atomic_file(path, patches.nbytes) as partial, open(partial, "wb") as file:
        np.save(file, patches, allow_pickle=False)
    return patches


def _read(source: Path, names: list[str]) -> np.ndarray:
    """The patches of these files, uint8 [n, 96, 96, 3]."""
    if source.is_dir():
        return np.stack([_patch((source / name).read_bytes(), name) for name in names])
    with ZipFile(source) as archive:
        return np.stack([_patch(archive.read(name), name) for name in names])


def _patch(content: bytes, name: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode, size = image.mode, image.size
            pixels = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's readers raise nearly anything
        raise ValueError(f"{name} cannot be read as an image ({error}); unpack it again.") from error
    if size != (PATCH, PATCH) or mode not in ("RGB", "RGBA"):
        raise ValueError(f"{name}: expected {PATCH}x{PATCH} pixels of RGB, 8 bits, found {size[0]}x{size[1]}, {mode}.")
    return pixels

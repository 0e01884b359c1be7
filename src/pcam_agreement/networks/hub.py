"""Networks that others published in timm's format, a folder of config.json and weights: on a hub or on a disk.

hf-hub:<owner>/<name>[@<revision>], from Hugging Face's hub or, without a connection, from its cache; local-dir:<path>.
"""

import json
import re
from pathlib import Path
from typing import Any

from pcam_agreement.core.files import sha256

HUB, FOLDER = "hf-hub:", "local-dir:"
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there; both are held to tensors


def is_published(architecture: str) -> bool:
    return architecture.startswith((HUB, FOLDER))


def read_config(architecture: str) -> dict[str, Any]:
    """The content of config.json.

    Raises ValueError where it cannot be had or is not in timm's format.
    """
    path = _file(architecture, CONFIG)
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path else {}
        in_format = isinstance(config["architecture"], str)
    except (KeyError, TypeError, ValueError):
        in_format = False
    if not in_format:
        raise ValueError(
            f"{architecture} has no {CONFIG} that names a timm architecture; take a network in timm's format, or give "
            "its architecture as timm/<name> and its weights as a path."
        )
    return config


def weights_file(architecture: str) -> Path:
    """The path of the weights, downloaded once.

    Raises ValueError where they cannot be had or are not what the hub says they are.
    """
    for name in WEIGHTS:
        if path := _file(architecture, name):
            return path
    raise ValueError(f"{architecture} has no weights ({' or '.join(WEIGHTS)}); it is not in timm's format.")


def given_file(architecture: str, weights: str) -> Path | None:
    """The file that weights are read from, where it lies on this disk and not in the hub's cache."""
    if weights == "default" and architecture.startswith(FOLDER):
        folder = Path(architecture.removeprefix(FOLDER))
        return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    return None if weights in ("default", "none") else Path(weights)


def outputs(config: dict[str, Any]) -> tuple[int | None, list[str]]:
    """The number of outputs of the head by its config.json, None where it is not said, and what they are called."""
    described = config.get("pretrained_cfg", config)
    names = config.get("label_names") or described.get("label_names") or []
    return config.get("num_classes", described.get("num_classes")), [str(name) for name in names]


def _file(architecture: str, name: str) -> Path | None:
    """A file of the folder; None where the folder does not have it."""
    if architecture.startswith(HUB):
        return _downloaded(architecture, name)
    folder = Path(architecture.removeprefix(FOLDER))
    if not folder.is_dir():
        raise ValueError(f"the folder {folder} is missing; {FOLDER} is followed by the path of one.")
    return folder / name if (folder / name).is_file() else None


def _downloaded(architecture: str, name: str) -> Path | None:
    from huggingface_hub import errors, hf_hub_download  # takes a second to import

    repository, _, revision = architecture.removeprefix(HUB).partition("@")
    try:
        path = Path(hf_hub_download(repository, name, revision=revision or None))
    except errors.GatedRepoError as error:
        raise ValueError(
            f"{architecture} is for those who accepted its license; do so at https://huggingface.co/{repository} and "
            "log in with `hf auth login`."
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise ValueError(
            f"the hub has no {architecture} that you may read; check the name, and log in with `hf auth login` where "
            "it is private."
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise ValueError(
            f"{name} of {architecture} is not in the hub's cache and the hub cannot be reached; connect once, or copy "
            f"the folder and use {FOLDER}<path>."
        ) from error
    except errors.EntryNotFoundError:
        return None
    content = path.resolve()
    # The cache calls what is large by its SHA-256.
    if re.fullmatch(r"[0-9a-f]{64}", content.name) and sha256(content) != content.name:
        content.unlink()
        raise ValueError(f"{name} of {architecture} was not what the hub says it is, and is deleted; run again.")
    return path

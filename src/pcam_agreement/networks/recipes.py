"""Recipes: the blocks under `network` in params.yaml, each whole."""

from collections.abc import Iterable, Mapping
from typing import Any


def recipes(
    raw: Mapping[str, Any], names: Iterable[str] | None = None, origin: str = "params.yaml"
) -> dict[str, dict[str, Any]]:
    """Each block under `network` with the shared `train` block and the `seed` laid under it; of all names, or of these.

    Raises ValueError where `train`, `network` or a block is not a mapping, and where there is no block of a name.
    """
    shared, blocks = raw.get("train"), raw.get("network")
    for key, value in (("train", shared), ("network", blocks)):
        if not isinstance(value, Mapping):
            raise ValueError(f"{origin}: {key}: expected a mapping of settings, found {value!r}.")
    assert isinstance(shared, Mapping) and isinstance(blocks, Mapping)
    result = {}
    for name in blocks if names is None else names:
        block = blocks.get(name)
        if not isinstance(block, Mapping):
            raise ValueError(f"{origin}: network.{name}: expected a mapping of settings, found {block!r}.")
        result[name] = {**shared, "seed": raw.get("seed"), **block}
    return result

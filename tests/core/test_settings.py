"""Sections of params.yaml, read by themselves."""

import copy
import math
import re
from collections.abc import Iterator
from functools import reduce

import pytest

from pcam_agreement.core.settings import Count, Level, Positive, Settings, read_params, section
from pcam_agreement.pipeline.params import check_params


class Inner(Settings):
    lr: Positive
    decay: Level
    epochs: Count


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lr": math.inf}, "params.yaml: train.lr: input should be a finite number, found inf."),
        ({"decay": math.nan}, "params.yaml: train.decay: input should be"),
        ({"epochs": 0}, "params.yaml: train.epochs: input should be greater than or equal to 1, found 0."),
        ({"epoch": 1}, "params.yaml: unknown setting train.epoch; did you mean epochs?"),
        ({"lr": None}, "params.yaml: train.lr: input should be a valid number, found None."),
    ],
)
def test_a_wrong_value_is_one_sentence_with_its_key(change, sentence):
    raw = {"train": {"lr": 0.1, "decay": 0.0, "epochs": 2} | change}
    with pytest.raises(ValueError, match=re.escape(sentence)):
        section(raw, "train", Inner)


def numbers(raw: dict, *above: str) -> Iterator[tuple[str, ...]]:
    """The paths of all numbers in the parameters."""
    for key, value in raw.items():
        if isinstance(value, dict):
            yield from numbers(value, *above, key)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*above, key)


def test_no_number_of_params_may_be_infinite_or_nan(raw):
    paths = list(numbers(raw))
    assert len(paths) > 60
    for *above, key in paths:
        for value in (math.inf, math.nan):
            changed = copy.deepcopy(raw)
            reduce(lambda block, name: block[name], above, changed)[key] = value
            with pytest.raises(ValueError, match=rf"params\.yaml: .*{key}.*, found (inf|nan)"):
                check_params(changed)


def test_a_section_that_is_missing_is_named():
    with pytest.raises(ValueError, match=r"method\.lime is missing"):
        section({"method": {"saliency": {}}}, "method.lime", Inner)


def test_a_file_that_is_no_mapping_or_no_text_is_one_sentence(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("- a")
    with pytest.raises(ValueError, match="expected a mapping of settings, found list"):
        read_params(path)
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match="is not valid YAML"):
        read_params(path)

"""Recipes: the shared settings under each block, and sentences for what is no block."""

import pytest

from pcam_agreement.networks.recipes import recipes

RAW = {"seed": 7, "train": {"lr": 1, "epochs": 2}, "network": {"a": {"lr": 3}, "b": {"seed": 8}}}


def test_a_block_lies_over_the_shared_settings_and_the_seed():
    assert recipes(RAW) == {"a": {"seed": 7, "lr": 3, "epochs": 2}, "b": {"seed": 8, "lr": 1, "epochs": 2}}
    assert list(recipes(RAW, ["b"])) == ["b"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"train": None}, "train: expected a mapping of settings"),
        ({"network": ["a"]}, "network: expected a mapping of settings"),
        ({"network": {"a": None}}, "network.a: expected a mapping of settings"),
        ({"network": {"a": 3}}, "network.a: expected a mapping of settings"),
    ],
)
def test_what_is_no_mapping_is_one_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        recipes({**RAW, **change})


def test_a_name_without_a_block_is_one_sentence():
    with pytest.raises(ValueError, match=r"network\.c: expected a mapping of settings"):
        recipes(RAW, ["c"])

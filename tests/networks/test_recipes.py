"""Recipes: the shared settings under each block; networks: recipes times trainings; sentences for what is wrong."""

from pathlib import Path

import pytest

from pcam_agreement.networks.recipes import find, networks, recipes

RAW = {
    "recipes": ["b", "a"],
    "trainings": [3, "untrained", 1, "untrained_2"],
    "train": {"lr": 1, "epochs": 2},
    "network": {
        "a": {"architecture": "x", "lr": 3},
        "b": {"architecture": "x"},
        "given": {"architecture": "y", "epochs": 0, "weights": "a.safetensors"},
    },
}


def test_a_block_lies_over_the_shared_settings():
    assert recipes(RAW, ["b", "a"]) == {
        "b": {"architecture": "x", "lr": 1, "epochs": 2},
        "a": {"architecture": "x", "lr": 3, "epochs": 2},
    }
    assert list(recipes(RAW)) == ["a", "b", "given"]


def test_networks_are_recipes_times_trainings_the_trained_ones_first():
    found = networks(RAW)
    assert [network.name for network in found] == [
        *("b-3", "b-1", "b-untrained", "b-untrained_2"),
        *("a-3", "a-1", "a-untrained", "a-untrained_2"),
    ]
    assert [network.trained for network in found] == [True, True, False, False] * 2
    assert found[1].path(Path("data/logits"), ".h5") == Path("data/logits/b/1.h5")
    assert found[1].path(Path("data/history")) == Path("data/history/b/1")


def test_a_given_network_has_the_first_seed_alone_and_untrained_counterparts():
    for names in (["given"], ["given", "a"], ["a", "given"]):
        of_given = [network for network in networks({**RAW, "recipes": names}) if network.recipe == "given"]
        assert [network.training for network in of_given] == ["3", "untrained", "untrained_2"]
    assert find(RAW, "given", "1") is None
    assert find(RAW, "given", "3") == of_given[0]
    assert find(RAW, "a", "1") == networks(RAW)[5]


def test_a_given_network_with_a_file_for_each_training_has_all_of_them():
    given = {**RAW["network"]["given"], "weights": "models/{training}.pth"}
    found = networks({**RAW, "recipes": ["given"], "network": {**RAW["network"], "given": given}})
    assert [network.training for network in found] == ["3", "1", "untrained", "untrained_2"]


def test_every_training_of_every_recipe_has_a_seed_of_its_own_that_depends_on_its_name_alone():
    found = networks(RAW)
    assert len({network.seed for network in found}) == len(found)
    fewer = networks({**RAW, "recipes": ["a"], "trainings": [1]})
    assert fewer[0].seed == next(network.seed for network in found if network.name == "a-1")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"train": None}, "train: expected a mapping of settings"),
        ({"network": ["a"]}, "network: expected a mapping of settings"),
        ({"network": {"a": None, "b": {}}}, "network.a: expected a mapping of settings"),
        ({"network": {"a": 3, "b": {}}}, "network.a: expected a mapping of settings"),
        ({"recipes": ["aa"]}, "unknown recipe 'aa'; did you mean a\\?"),
        ({"recipes": []}, "recipes is empty; name at least one"),
        ({"recipes": None}, "recipes: expected a list, each the name of a block under network, found None"),
        ({"recipes": ["a", "a"]}, "recipes names a more than once"),
        ({"trainings": None}, "trainings: expected a list, each a seed"),
        ({"trainings": []}, "trainings is empty; name at least one"),
        ({"trainings": [1, -2]}, "trainings: expected a seed .* or untrained, .*, found '-2'"),
        ({"trainings": [1, "untraind"]}, "trainings: expected a seed .*, found 'untraind'"),
        ({"trainings": [1, 1.5]}, "trainings: expected a seed .*, found '1.5'"),
        ({"trainings": [1, True]}, "trainings: expected a seed .*, found 'True'"),
        ({"trainings": [1, "1"]}, "trainings names 1 more than once"),
        ({"trainings": ["untrained", 1]}, "trainings begins with untrained; begin with a seed"),
    ],
)
def test_what_is_wrong_is_one_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        networks({**RAW, **change})


def test_a_training_that_the_parameters_do_not_name_is_one_sentence():
    with pytest.raises(ValueError, match=r"unknown training '2'; known: 3, 1, untrained, untrained_2\."):
        find(RAW, "a", "2")
    with pytest.raises(ValueError, match=r"unknown recipe 'c'; known: a, b, given\."):
        find(RAW, "c", "1")

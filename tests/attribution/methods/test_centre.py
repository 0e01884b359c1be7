import torch

from small_networks import Linear, run


def test_the_centre_is_highest_in_the_middle_and_the_same_for_all(patches, settings):
    attribution, _ = run("centre", Linear(), patches, settings)
    assert (attribution[:, 0, 47:49, 47:49] == attribution.max()).all()
    assert torch.equal(attribution[0], attribution[-1])

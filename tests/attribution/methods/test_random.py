import pytest
import torch

from pcam_agreement.agreement.measures import chance_iou
from pcam_agreement.heatmaps.masks import overlap, top_mask
from small_networks import SEEDS, run


def test_random_maps_differ_between_seeds_and_are_the_same_again(patches, settings, resnet):
    other = [seed + 1 for seed in SEEDS]
    first, again, different = (
        run("random", resnet, patches, settings, seeds=seeds)[0] for seeds in (SEEDS, SEEDS, other)
    )
    assert torch.equal(first, again)
    masks = [top_mask(maps.flatten(1).numpy(), 0.25) for maps in (first, different)]
    assert overlap(*masks).mean() == pytest.approx(chance_iou(0.25), abs=0.01)

import pytest
import torch

from conftest import ready
from pcam_agreement.agreement.measures import chance_iou
from pcam_agreement.heatmaps.masks import overlap, top_mask
from small_networks import run


def test_random_maps_differ_between_networks_and_are_the_same_again(patches, settings):
    network, other = ready("timm/resnet10t"), ready("timm/resnet10t", seed=1)
    first, again, different = (run("random", net, patches, settings)[0] for net in (network, network, other))
    assert torch.equal(first, again)
    masks = [top_mask(maps.flatten(1).numpy(), 0.25) for maps in (first, different)]
    assert overlap(*masks).mean() == pytest.approx(chance_iou(0.25), abs=0.01)

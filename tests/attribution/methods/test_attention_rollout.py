import pytest
import torch

from small_networks import TRANSFORMERS, attention_by_hand, map_of_rows, run, small_transformer


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_rollout_is_the_product_of_attention_and_identity_over_two_blocks(kind, patches, settings):
    network = small_transformer(kind)
    attribution, _ = run("attention_rollout", network, patches, settings)
    _, (first, second) = attention_by_hand(network, patches)
    identity = torch.eye(first.shape[-1])
    expected = map_of_rows((second.mean(1) + identity) / 2 @ (first.mean(1) + identity) / 2, kind)
    torch.testing.assert_close(attribution, expected, rtol=1e-4, atol=1e-6)
    assert attribution.amin() >= 0


def test_rollout_does_not_depend_on_the_head(patches, settings):
    network = small_transformer("class_token")
    before, _ = run("attention_rollout", network, patches[:2], settings)
    network.backbone.head.weight.neg_()
    after, _ = run("attention_rollout", network, patches[:2], settings)
    assert torch.equal(before, after)

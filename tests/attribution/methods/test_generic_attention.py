import pytest
import torch

from small_networks import TRANSFORMERS, attention_by_hand, map_of_rows, precise, run, small_transformer


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_relevance_is_updated_by_the_positive_part_of_gradient_times_attention(kind, patches, settings):
    network, patches = precise(small_transformer(kind), patches)
    attribution, _ = run("generic_attention", network, patches, settings)
    logits, attention = attention_by_hand(network, patches.clone().requires_grad_(True))
    gradients = torch.autograd.grad(logits.sum(), attention)
    first, second = ((g * a.detach()).clamp(min=0).mean(1) for g, a in zip(gradients, attention, strict=True))
    relevance = torch.eye(first.shape[-1], dtype=torch.float64)
    relevance = relevance + first @ relevance
    relevance = relevance + second @ relevance
    expected = map_of_rows(relevance - torch.eye(first.shape[-1]), kind)
    # read_tokens is in float32
    torch.testing.assert_close(attribution, expected, rtol=1e-6, atol=1e-6 * expected.amax().item())
    assert attribution.amin() >= 0
    assert attribution.amax() > 0


def test_attention_that_lowers_the_score_counts_for_the_other_class(patches, settings):
    network = small_transformer("class_token")
    tumour, _ = run("generic_attention", network, patches[:2], settings)
    network.backbone.head.weight.neg_()
    normal, _ = run("generic_attention", network, patches[:2], settings)
    assert not torch.allclose(tumour, normal, rtol=1e-2)

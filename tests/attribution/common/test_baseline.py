"""Baselines: colours by hand, the Gaussian against torchvision's."""

import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from pcam_agreement.attribution.common.baseline import baseline


def test_white_black_mean_and_imagenet_are_one_colour_a_patch(patches):
    for kind, colour in (
        ("white", torch.ones(8, 3)),
        ("black", torch.zeros(8, 3)),
        ("mean", patches.mean((2, 3))),
        ("imagenet", torch.tensor([0.485, 0.456, 0.406]).expand(8, 3)),
    ):
        torch.testing.assert_close(baseline(patches, kind), colour[..., None, None].expand_as(patches))


def test_a_blurred_patch_is_torchvisions(patches):
    blurred = baseline(patches, "blurred")
    torch.testing.assert_close(blurred, gaussian_blur(patches, [49, 49], [8.0, 8.0]))
    assert blurred.dtype == torch.float32


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_blurred_patch_in_16_bits_is_that_of_32_bits_rounded(layout, patches):
    rounded = patches.bfloat16().to(memory_format=layout)
    torch.testing.assert_close(baseline(rounded, "blurred"), baseline(rounded.float(), "blurred").bfloat16())


def test_an_unknown_baseline_is_refused(patches):
    with pytest.raises(ValueError, match="unknown baseline 'grey'"):
        baseline(patches, "grey")

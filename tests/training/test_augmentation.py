"""Augmentation that depends on a patch's place in its batch alone."""

import numpy as np
import torch

from pcam_agreement.training.augmentation import STAINS, augment, random_numbers


def test_a_patch_is_augmented_by_its_place_whatever_comes_with_it(patches):
    random = random_numbers(8, 5)
    whole = augment(patches, random, True, True, 0.1)
    parts = [augment(patches[part], random[part], True, True, 0.1) for part in (slice(0, 3), slice(3, 8))]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert not torch.allclose(augment(patches, random_numbers(8, 6), True, True, 0.1), whole)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(patches, random, True, True, 0.1), whole)


def test_flips_and_turns_give_the_eight_symmetries_of_a_square_equally_often():
    square = torch.arange(4.0).reshape(1, 1, 2, 2).expand(4000, 3, 2, 2)
    turned = augment(square, random_numbers(4000, 0), True, True, 0.0)[:, 0].flatten(1)
    kinds, counts = turned.unique(dim=0, return_counts=True)
    assert len(kinds) == 8
    assert abs(counts - 500).max() < 100  # 4.8 standard deviations
    assert len(augment(square, random_numbers(4000, 0), True, False, 0.0).unique(dim=0)) == 4
    assert torch.equal(augment(square, random_numbers(4000, 0), False, False, 0.0), square)


def test_stain_jitter_scales_the_amount_of_each_stain():
    stains = torch.tensor(STAINS)
    amounts = torch.tensor([0.4, 0.3, 0.0])
    patch = torch.exp(-(amounts @ stains)).view(1, 3, 1, 1).expand(2000, 3, 1, 1)
    density = -torch.log(augment(patch, random_numbers(2000, 0), False, False, 0.1))[:, :, 0, 0]
    factors = torch.log(density @ torch.linalg.inv(stains))[:, :2] - torch.log(amounts[:2])
    torch.testing.assert_close(factors.std(0), torch.full((2,), 0.1), atol=0.01, rtol=0)
    torch.testing.assert_close(factors.mean(0), torch.zeros(2), atol=0.01, rtol=0)
    assert abs(np.corrcoef(factors.T.numpy())[0, 1]) < 0.1

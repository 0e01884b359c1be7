import numpy as np
import pytest
import torch
from skimage.transform import resize

from pcam_agreement.attribution.methods import rise
from pcam_agreement.core.seeds import seed_of
from small_networks import SEEDS, Linear, run


def expectation(network, patch, cells: int, probability: float) -> torch.Tensor:
    """RISE's expectation on a weighted sum of the pixels, with black for what is hidden: [96, 96].

    Two pixels of a mask have the mean product p^2 + p (1 - p) K K', where K is, along one side, the mean over the
    shifts of the sum over cells of what both pixels show of the cell.
    """
    windows = rise._windows(cells, 96)
    shared = (windows @ windows.mT).mean(0)
    evidence = (network.weight[0] * patch).sum(0)
    return 0.5 + probability * evidence.sum() + (1 - probability) * shared @ evidence @ shared


@pytest.mark.parametrize(("cells", "probability"), [(7, 0.5), (4, 0.3)])
def test_on_a_linear_network_it_converges_to_its_expectation(cells, probability, patches, settings):
    network, errors = Linear(), []
    change = {"cells": cells, "probability": probability}
    expected = expectation(network, patches[0], cells, probability)
    for masks in (100, 10000):
        attribution, _ = run("rise", network, patches[:1], settings, 100, masks=masks, **change)
        errors.append(((attribution[0, 0] - expected).norm() / expected.std() / 96).item())
    assert errors[1] < 0.1 * 2**0.5 * errors[0]  # ten times less, but for chance
    assert errors[1] < 0.15


def test_a_mask_is_a_grid_enlarged_to_one_cell_more_and_cut_at_its_shift():
    settings = rise.Settings(reduce="minmax_of_sum", masks=3, cells=7, probability=0.5, baseline="black")
    windows = rise._windows(7, 96)
    assert windows.shape == (14, 96, 7)
    torch.testing.assert_close(windows.sum(2), torch.ones(14, 96))
    grids, tops, lefts = rise._samples([5], settings, len(windows))
    for grid, top, left in zip(grids[0].float(), tops[0].tolist(), lefts[0].tolist(), strict=True):
        enlarged = resize(grid.numpy(), (8 * 14, 8 * 14), order=1, mode="edge", anti_aliasing=False)
        mask = windows[top] @ grid @ windows[left].mT
        np.testing.assert_allclose(mask, enlarged[top : top + 96, left : left + 96], atol=1e-5)


def test_cells_show_with_the_probability_and_shifts_stay_below_a_cell():
    settings = rise.Settings(reduce="minmax_of_sum", masks=4000, cells=7, probability=0.3, baseline="black")
    grids, tops, lefts = rise._samples([0, 1], settings, 14)
    assert grids.float().mean().item() == pytest.approx(0.3, abs=0.005)
    for shifts in (tops, lefts):
        assert shifts.unique().tolist() == list(range(14))
    assert (grids[0] != grids[1]).any()


def test_a_hidden_pixel_shows_the_baseline(patches, settings):
    class Keeping(Linear):
        inputs = torch.empty(0)

        def forward(self, inputs):
            self.inputs = inputs
            return super().forward(inputs)

    network = Keeping()
    run("rise", network, patches[:1], settings, masks=8, baseline="black")
    assert (network.inputs <= patches[:1] + 1e-6).all()
    run("rise", network, patches[:1], settings, masks=8, baseline="white")
    assert (network.inputs >= patches[:1] - 1e-6).all()


def test_a_seed_gives_the_same_map_whatever_the_other_patches_and_another_seed_another(patches, settings):
    first, _ = run("rise", Linear(), patches[:2], settings, masks=50)
    alone, _ = run("rise", Linear(), patches[1:2], settings, 7, SEEDS[1:], masks=50)
    other, _ = run("rise", Linear(), patches[1:2], settings, 7, [seed_of(1, 0)], masks=50)
    torch.testing.assert_close(first[1:], alone, rtol=1e-4, atol=1e-4 * alone.abs().max().item())
    assert not torch.allclose(alone, other, rtol=1e-2)

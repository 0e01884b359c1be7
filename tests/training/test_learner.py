"""The learning rate of every step of a training, however short."""

import warnings

import pytest
import torch
from torch import nn

from pcam_agreement.training.learner import one_cycle


@pytest.mark.parametrize("steps", [*range(2, 24), 162])
def test_a_training_of_any_number_of_steps_goes_up_to_the_rate_and_down_to_nearly_nothing(steps):
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    schedule = one_cycle(optimiser, 1.0, steps)
    rates = [schedule.get_last_lr()[0]]
    for _ in range(steps - 1):
        with warnings.catch_warnings(action="ignore"):  # that the optimiser has made no step
            schedule.step()
        rates += schedule.get_last_lr()
    highest = rates.index(max(rates))
    assert 0.5 < rates[highest] <= 1
    assert highest <= max(1, 0.1 * steps)
    assert rates == sorted(rates[:highest]) + sorted(rates[highest:], reverse=True)
    assert rates[-1] < 1e-4

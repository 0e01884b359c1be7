"""The device that was asked for, or a sentence; what torch does there."""

import pytest
import torch

from pcam_agreement.networks.device import choose_device


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="torch sees no GPU"):
        choose_device("cuda")
    assert choose_device("auto") == torch.device("cpu")


def test_torch_computes_deterministically_and_fills_no_memory_before_it_is_written():
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    choose_device("cpu")
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory

"""The device that was asked for, or a sentence."""

import pytest
import torch

from pcam_agreement.networks.device import choose_device


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="torch sees no GPU"):
        choose_device("cuda")
    assert choose_device("auto") == torch.device("cpu")

"""A checkpoint made ready for inference: batch norms folded, 32 bits."""

import pytest
import torch

from conftest import ready
from pcam_agreement.inference.load import fold_batch_norms, load_classifier
from pcam_agreement.networks.checkpoint import save_checkpoint


@pytest.mark.parametrize(
    ("architecture", "folded", "left"),
    [
        ("timm/resnet10t", 14, 0),
        ("timm/test_byobnet", 14, 0),
        ("timm/test_efficientnet", 13, 0),
        ("densenet121", 59, 62),
        ("alexnet", 0, 0),
        ("timm/convnext_atto", 0, 0),
    ],
)
def test_batch_norms_behind_a_convolution_are_folded_into_it_and_the_function_stays(
    architecture, folded, left, patches
):
    network = ready(architecture)
    random = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training: nothing is 0 or 1
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                tensor.data.uniform_(0.5, 1.5, generator=random)
    convolutions = [module.bias is None for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    before = network(patches)
    fold_batch_norms(network.backbone)
    torch.testing.assert_close(network(patches), before, rtol=1e-4, atol=1e-4 * before.abs().max().item())
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules()) == left
    after = [module.bias is None for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert sum(convolutions) - sum(after) == folded


class Branching(torch.nn.Module):
    """A batch norm that torch.fx does not see, as what is computed depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)

    def forward(self, inputs):
        return self.norm(self.convolution(inputs)) if inputs.sum() > 0 else inputs


class Shared(Branching):
    """A convolution whose output is used twice: the batch norm cannot become part of it."""

    def forward(self, inputs):
        found = self.convolution(inputs)
        return self.norm(found) + found


@pytest.mark.parametrize("network", [Branching(), Shared()])
def test_a_batch_norm_that_cannot_be_folded_stays(network, patches):
    network.eval().norm.running_var.fill_(4)
    before = network(patches)
    fold_batch_norms(network)
    assert isinstance(network.norm, torch.nn.BatchNorm2d)
    torch.testing.assert_close(network(patches), before)


def test_a_loaded_network_computes_in_32_bits_on_a_gpu_too(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    save_checkpoint(ready("timm/resnet10t"), tmp_path / "a.safetensors")
    load_classifier(tmp_path / "a.safetensors", torch.device("cpu"))
    assert not torch.backends.cudnn.allow_tf32

"""Untrained networks: random weights, batch norms of the patches, heatmaps that depend on the patch."""

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from conftest import chosen, explain_patches
from pcam_agreement.data.pcam import read_split
from pcam_agreement.inference.batch import Batch
from pcam_agreement.networks.classifier import build_classifier, to_float
from pcam_agreement.training import untrained as untrained_module
from pcam_agreement.training.untrained import untrained_classifier


def untrained(architecture: str, dataset, seed: int = 0):
    torch.manual_seed(seed)
    return untrained_classifier(architecture, "native", read_split(dataset, "train").patches)


@pytest.mark.parametrize(
    "architecture", ["timm/resnet10t", "timm/regnetx_002", "timm/test_efficientnet", "densenet121"]
)
def test_batch_norms_have_the_statistics_of_the_patches_and_weights_of_one(architecture, dataset):
    network = untrained(architecture, dataset)
    assert not network.training
    seen: dict[str, torch.Tensor] = {}
    norms = {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    for name, norm in norms.items():
        norm.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    # In train mode each batch norm normalises by the batch, as it did when its statistics were taken.
    for norm in norms.values():
        norm.train()
        norm.momentum = 0.0
    with torch.no_grad():
        network(to_float(torch.from_numpy(np.array(read_split(dataset, "train").patches))))
    for name, norm in norms.items():
        assert (norm.weight == 1).all(), name
        torch.testing.assert_close(norm.running_mean, seen[name].mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(norm.running_var, seen[name].transpose(0, 1).flatten(1).var(1), rtol=1e-3, atol=1e-3)


def test_its_logits_are_moderate_and_differ_between_patches(dataset):
    split = read_split(dataset, "test")
    for architecture in ("timm/regnetx_002", "timm/resnet10t"):
        with torch.no_grad():
            logits = untrained(architecture, dataset)(to_float(torch.from_numpy(split.patches[:8].copy())))
        assert logits.abs().max() < 100
        assert logits.std() > 1e-3


def test_heatmaps_of_a_network_whose_library_closes_its_residual_branches_differ_between_patches(
    dataset, patches, settings
):
    network = untrained("timm/regnetx_002", dataset).requires_grad_(False)
    kind = chosen(settings, "saliency")
    maps = explain_patches(network, patches, [0] * 8, "saliency", kind, settings.explain, Batch(8))["heatmaps"]
    flat = maps.reshape(8, -1).astype(float)
    assert (flat > 0).mean() > 0.9  # else 64 fixed pixels are seen
    correlation = np.corrcoef(flat)[np.triu_indices(8, 1)]
    assert correlation.max() < 0.9


def test_it_is_the_same_again_and_another_by_another_seed(dataset):
    first, again, other = (untrained("timm/test_efficientnet", dataset, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_batches_are_of_nearly_the_same_size_so_that_none_is_a_single_patch(dataset, monkeypatch):
    sizes = []
    to_device = untrained_module.to_device
    monkeypatch.setattr(
        untrained_module, "to_device", lambda batch, at: sizes.append(len(batch)) or to_device(batch, at)
    )
    untrained_classifier("timm/test_resnet", "native", np.repeat(read_split(dataset, "train").patches[:1], 65, 0))
    assert sizes == [33, 32]


def test_a_network_without_batch_norm_is_as_it_was_initialised(dataset):
    torch.manual_seed(0)
    built = build_classifier("timm/test_vit", "none", "native").state_dict()
    assert all(
        torch.equal(tensor, built[name]) for name, tensor in untrained("timm/test_vit", dataset).state_dict().items()
    )

"""The table of classifiers: build, one training step, save, load; weights from where the libraries look for them."""

import json
import re
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

from conftest import ready
from pcam_agreement import networks
from pcam_agreement.architectures import NETWORKS

CPU = torch.device("cpu")
TIMM = ["timm/resnet10t", "timm/vit_tiny_patch16_224"]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [*NETWORKS, *TIMM])
def test_every_architecture_trains_a_step_and_comes_back_from_disk(architecture, patches, tmp_path):
    torch.manual_seed(0)
    network = networks.build(architecture, "none", "native").train()
    optimiser = torch.optim.SGD(network.parameters(), 1e-4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.nn.functional.binary_cross_entropy_with_logits(network(patches[:3]), torch.tensor([1.0, 0, 1])).backward()
    optimiser.step()
    assert any(not torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    networks.save(network, tmp_path / "a.safetensors")
    again = networks.load(tmp_path / "a.safetensors", CPU)
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(again(patches[:3]), network(patches[:3]), rtol=1e-3, atol=1e-5)
    networks.save(network, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [*NETWORKS, *TIMM])
def test_an_untrained_network_has_every_tensor_drawn_anew(architecture):
    """Between two seeds only what starts as a constant is equal: the weights of norms, biases, class tokens."""
    one, other = (ready(architecture, seed).state_dict() for seed in (0, 1))
    for name, tensor in one.items():
        constant = not tensor.is_floating_point() or tensor.numel() == 0 or tensor.min() == tensor.max()
        assert constant or not torch.equal(tensor, other[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["vit_b_16", "inception_v3", "alexnet", "timm/vit_tiny_patch16_224"])
def test_at_the_architectures_own_size_patches_are_still_96_pixels(architecture, patches):
    network = ready(architecture, input_size="architecture")
    assert network.size in (224, 299)
    inputs = patches[:1].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(inputs).sum(), inputs)
    assert gradient.shape == (1, 3, 96, 96)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("architecture", "folded", "left"),
    [("timm/resnet10t", 14, 0), ("densenet121", 59, 62), ("alexnet", 0, 0), ("timm/convnext_atto", 0, 0)],
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
    networks.fold_batch_norms(network.backbone)
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
    networks.fold_batch_norms(network)
    assert isinstance(network.norm, torch.nn.BatchNorm2d)
    torch.testing.assert_close(network(patches), before)


def test_one_patch_keeps_its_batch_axis(patches, resnet):
    assert resnet(patches[:1]).shape == (1,)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty folder where torch looks for downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "size"), [*((name, "native") for name in NETWORKS), ("alexnet", "architecture")]
)
def test_default_weights_are_read_from_where_torchvision_keeps_them(architecture, size, hub):
    torch.manual_seed(1)
    options = {"init_weights": True} if architecture == "inception_v3" else {}
    published = torchvision.models.get_model(architecture, weights=None, **options)
    weights = torchvision.models.get_weight(NETWORKS[architecture].weights)
    torch.save(published.state_dict(), hub / weights.url.rpartition("/")[2])
    network = networks.build(architecture, "default", size)
    own = network.backbone.state_dict()
    for name, tensor in published.state_dict().items():
        if name.startswith(("AuxLogits.", network.head + ".")) or name == "encoder.pos_embedding":
            continue
        assert torch.equal(own[name], tensor), name
    assert own[network.head + ".weight"].shape[0] == 1


def test_weights_that_could_run_code_are_refused(hub):
    name = torchvision.models.get_weight(NETWORKS["alexnet"].weights).url.rpartition("/")[2]
    torch.save({"features.0.weight": re.compile("x"), "code": Path}, hub / name)
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        networks.build("alexnet", "default", "native")


def test_the_mean_and_deviation_are_those_the_weights_were_made_with():
    for name, row in NETWORKS.items():
        preset = torchvision.models.get_weight(row.weights).transforms()
        if name == "inception_v3":  # torchvision normalises as for ImageNet, then its transform_input undoes it
            assert row.mean == row.std == (0.5, 0.5, 0.5)
        else:
            assert (list(row.mean), list(row.std)) == (preset.mean, preset.std)
        assert preset.crop_size[0] == row.size


def test_inception_sees_what_torchvisions_own_switch_would_give_it(patches):
    torch.manual_seed(0)
    network = networks.build("inception_v3", "none", "native").eval()
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    network.backbone.transform_input = True
    with torch.no_grad():
        theirs = network.backbone((patches - mean) / std)[:, 0]
        network.backbone.transform_input = False
        torch.testing.assert_close(network(patches), theirs, rtol=1e-4, atol=1e-5)


def test_timm_weights_are_read_from_a_file(tmp_path, monkeypatch):
    torch.manual_seed(1)
    published = timm.create_model("resnet10t")
    save_file(published.state_dict(), tmp_path / "model.safetensors")
    overlay = {"file": str(tmp_path / "model.safetensors")}
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *args, **given: create(*args, pretrained_cfg_overlay=overlay, **given)
    )
    network = networks.build("timm/resnet10t", "default", "native")
    assert torch.equal(network.backbone.state_dict()["conv1.0.weight"], published.state_dict()["conv1.0.weight"])
    assert network.backbone.fc.weight.shape == (1, 512)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_from_a_path_are_those_of_the_file(suffix, tmp_path):
    torch.manual_seed(1)
    published = torchvision.models.alexnet()
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(published.state_dict(), path)
    network = networks.build("alexnet", str(path), "native")
    assert torch.equal(network.backbone.features[0].weight, published.features[0].weight)
    own = tmp_path / "own.safetensors"
    networks.save(network, own)
    again = networks.build("alexnet", str(own), "native")  # a checkpoint of ours brings its head along
    assert torch.equal(again.backbone.classifier[6].weight, network.backbone.classifier[6].weight)


def test_weights_that_do_not_fit_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="are missing; give a path"):
        networks.build("alexnet", str(tmp_path / "none.pth"), "native")
    for name in ("features.0.weight", "classifier.6.other"):
        save_file({name: torch.zeros(1)}, tmp_path / "a.safetensors")
        with pytest.raises(ValueError, match="does not fit alexnet"):
            networks.build("alexnet", str(tmp_path / "a.safetensors"), "native")
    for junk in ([torch.zeros(1)], {"features.0.weight": 1}):
        torch.save(junk, tmp_path / "a.pth")
        with pytest.raises(ValueError, match="is not a state dict of tensors alone"):
            networks.build("alexnet", str(tmp_path / "a.pth"), "native")
    (tmp_path / "a.pth").write_bytes(b"junk")
    with pytest.raises(ValueError, match="is not a state dict of tensors alone"):
        networks.build("alexnet", str(tmp_path / "a.pth"), "native")


def test_timm_networks_that_cannot_be_had_are_one_sentence():
    with pytest.raises(ValueError, match=r"timm has no weights 'resnet18.a1_in1l'; did you mean resnet18.a1_in1k"):
        networks.build("timm/resnet18.a1_in1l", "none", "native")
    without = next(name for name in timm.list_models("resnet*") if not timm.get_pretrained_cfg(name).has_weights)
    with pytest.raises(ValueError, match="set its weights to none or a path"):
        networks.build(f"timm/{without}", "default", "native")
    with pytest.raises(ValueError, match="has several heads"):
        networks.build("timm/repvit_m0_9", "none", "native")


def test_a_checkpoint_that_is_missing_foreign_or_cut_is_one_sentence(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="is missing; run the train stage"):
        networks.load(path, CPU)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="is not a checkpoint of this project"):
        networks.load(path, CPU)
    networks.save(ready("timm/resnet10t"), path)
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(ValueError, match="is not a checkpoint of this project"):
        networks.load(path, CPU)


def test_a_network_that_is_looked_at_computes_in_32_bits_on_a_gpu_too(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    networks.save(ready("timm/resnet10t"), tmp_path / "a.safetensors")
    networks.load(tmp_path / "a.safetensors", CPU)
    assert not torch.backends.cudnn.allow_tf32


def test_a_checkpoint_states_its_architecture_and_holds_tensors_only(tmp_path):
    networks.save(ready("timm/resnet10t"), tmp_path / "a.safetensors")
    with networks.safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert json.loads(file.metadata()["network"]) == {"architecture": "timm/resnet10t", "native": True}
    assert "fc.weight" in load_file(tmp_path / "a.safetensors")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="torch sees no GPU"):
        networks.device("cuda")
    assert networks.device("auto") == CPU

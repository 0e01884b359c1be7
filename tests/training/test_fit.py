"""Real training runs on a few patches: the settings do what they say, a killed run ends in the same bytes."""

import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file

from pcam_agreement.core.files import read_arrays
from pcam_agreement.data.pcam import read_split, stratified_sample
from pcam_agreement.inference.load import load_classifier
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.networks.classifier import Classifier, build_classifier
from pcam_agreement.networks.logits import network_logits
from pcam_agreement.networks.recipes import Network
from pcam_agreement.pipeline import train as train_stage
from pcam_agreement.pipeline.params import check_params
from pcam_agreement.report import metrics
from pcam_agreement.report.history import read_history
from pcam_agreement.training import batches
from pcam_agreement.training.fit import Files, _check_finite, learnt_labels, train
from pcam_agreement.training.learner import LARGEST, Learner
from pcam_agreement.training.settings import Recipe

CPU = torch.device("cpu")


@pytest.fixture
def recipe(raw) -> Recipe:
    """Settings of the smallest network, two epochs."""
    raw["network"]["tiny"] = {"architecture": "timm/test_resnet", "epochs": 2, "batch_size": 8, "fraction": 0.5}
    raw["recipes"], raw["train"]["lr"] = ["tiny"], 1e-3
    return check_params(raw).network["tiny"]


def network(training: str = "1", name: str = "tiny") -> Network:
    return Network(name, training, "timm/test_resnet")


def fit(
    recipe: Recipe, dataset: Path, folder: Path, training: str = "1", sample: int = 0, name: str = "tiny"
) -> dict[str, torch.Tensor]:
    """What the checkpoint of a training run holds; it goes on from what an earlier one left in the folder."""
    (folder / "work").mkdir(parents=True, exist_ok=True)
    train(network(training, name), recipe, sample, "cpu", files(dataset, folder))
    return load_file(folder / "a.safetensors")


def files(dataset: Path, folder: Path) -> Files:
    return Files(dataset, *(folder / name for name in ("features.h5", "a.safetensors", "history", "logits.h5", "work")))


def built(recipe: Recipe) -> Classifier:
    """The first training's network as it starts."""
    torch.manual_seed(network().seed % 2**32)
    return build_classifier(recipe.architecture, recipe.weights, recipe.input)


def test_training_writes_the_best_checkpoint_and_a_row_an_epoch(recipe, dataset, tmp_path):
    fit(recipe, dataset, tmp_path)
    history = read_history(tmp_path / "history")
    assert list(history.columns) == ["train/loss", "valid/accuracy", "valid/auroc", "valid/loss"]
    assert history.index.tolist() == [0, 1]
    written = read_arrays(tmp_path / "logits.h5")
    assert {name: len(values) for name, values in written.items()} == {
        **dict.fromkeys(("valid_logits", "valid_labels", "test_logits", "test_labels"), 33)
    }
    trained = load_classifier(tmp_path / "a.safetensors", CPU)
    split = read_split(dataset, "valid")
    logits = network_logits(trained, split.patches, CPU)
    assert metrics.auroc(logits, split.labels) == pytest.approx(history["valid/auroc"].max(), abs=1e-6)


def test_the_same_seed_and_recipe_give_the_same_bytes_and_another_seed_or_recipe_does_not(recipe, dataset, tmp_path):
    short = recipe.model_copy(update={"epochs": 1})
    for name, change in (
        ("a", {}),
        ("b", {}),
        ("c", {"training": "2"}),
        ("d", {"name": "other"}),
        ("e", {"sample": 1}),
    ):
        fit(short, dataset, tmp_path / name, **change)
    first, again, *others = ((tmp_path / name / "a.safetensors").read_bytes() for name in "abcde")
    assert first == again
    assert len({first, *others}) == 4


def test_another_training_starts_elsewhere_and_sees_the_same_patches_in_another_order(
    recipe, dataset, tmp_path, monkeypatch
):
    orders: dict[str, list] = {}
    gather = batches.Source.gather

    def gathered(source, numbers):
        if len(source.index) == 16:  # of train, half of it
            orders[training].append(source.index[numbers].tolist())
        return gather(source, numbers)

    monkeypatch.setattr(batches.Source, "gather", gathered)
    still = recipe.model_copy(update={"lr": 1e-30, "weight_decay": 0.0})
    weights = {}
    for training in ("1", "2"):
        orders[training] = []
        weights[training] = fit(still, dataset, tmp_path / training, training)["conv1.0.weight"]
    assert (weights["1"] != weights["2"]).all()
    assert orders["1"] != orders["2"]
    split = read_split(dataset, "train")
    patches = stratified_sample(split.labels, 16, 0).tolist()
    for order in orders.values():  # two epochs of two batches
        assert sorted(chain(*order[:2])) == sorted(chain(*order[2:])) == patches


def test_logits_that_are_not_finite_are_one_sentence_with_the_network_and_the_split():
    _check_finite(network(), "test", np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=r"network\.tiny: 2 of 4 test logits of tiny-1 are not finite; lower its lr"):
        _check_finite(network(), "test", np.array([0, np.nan, -np.inf, 1], np.float32))


def test_a_finite_loss_from_which_no_training_comes_back_ends_it(recipe):
    learner = Learner(network(), built(recipe), recipe)
    learner._check(torch.tensor(0.7), "training", LARGEST)
    with pytest.raises(ValueError, match=r"network\.tiny: training 1 diverged in epoch 1, the training loss is 1e\+05"):
        learner._check(torch.tensor(1e5), "training", LARGEST)


def test_a_given_network_stays_as_it_is(recipe, dataset, tmp_path):
    save_checkpoint(built(recipe), tmp_path / "given.safetensors")
    given = recipe.model_copy(update={"epochs": 0, "weights": str(tmp_path / "given.safetensors")})
    state = fit(given, dataset, tmp_path, "7")
    assert all(torch.equal(tensor, state[name]) for name, tensor in built(recipe).backbone.state_dict().items())
    assert list(read_history(tmp_path / "history").columns) == ["valid/accuracy", "valid/auroc", "valid/loss"]


@pytest.mark.parametrize("layers", [[], ["layer4.0.bn2"], ["layer4"]])
def test_freezing_trains_the_head_and_named_layers_and_holds_the_rest_with_its_statistics(
    recipe, dataset, tmp_path, layers
):
    settings = recipe.model_copy(update={"freeze": True, "unfreeze": layers, "epochs": 1})
    state, before = fit(settings, dataset, tmp_path), built(settings).backbone.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, state[name])}
    assert all(name.startswith(("fc.", *(f"{layer}." for layer in layers))) for name in changed)
    assert changed >= {"fc.weight", "fc.bias"}
    assert bool(layers) == (changed >= {"layer4.0.bn2.weight", "layer4.0.bn2.running_var"})


def test_a_new_head_on_given_weights_starts_small(recipe, dataset, tmp_path):
    settings = recipe.model_copy(update={"architecture": "timm/test_efficientnet", "epochs": 1, "lr": 1e-12})
    save_file(timm.create_model("test_efficientnet").state_dict(), tmp_path / "given.safetensors")
    given = settings.model_copy(update={"weights": str(tmp_path / "given.safetensors")})
    large, small = (fit(chosen, dataset, tmp_path)["classifier.weight"] for chosen in (settings, given))
    assert small.abs().max() <= small.shape[1] ** -0.5 < large.abs().max()


def test_a_layer_that_a_network_does_not_have_cannot_be_trained(recipe):
    with pytest.raises(ValueError, match=r"unknown layer 'layer5'; did you mean layer\d\?"):
        built(recipe).freeze(["layer5"])


def test_training_stops_early_when_validation_does_not_improve(recipe, dataset, tmp_path):
    settings = recipe.model_copy(update={"epochs": 9, "patience": 1, "lr": 1e-12, "schedule": "constant"})
    fit(settings, dataset, tmp_path)
    assert len(read_history(tmp_path / "history")) < 9


def test_a_cycle_of_a_single_step_which_learns_nothing_is_refused(recipe, dataset, tmp_path):
    settings = recipe.model_copy(update={"epochs": 1, "batch_size": 1000})
    with pytest.raises(ValueError, match=r"network\.tiny: expected at least 2 training steps .*, found 1; raise"):
        fit(settings, dataset, tmp_path)


@pytest.mark.parametrize("change", [{"optimiser": "sgd", "lr": 1e6}, {"optimiser": "adamw", "lr": 1e6}])
def test_a_training_that_diverges_ends_at_once_with_its_name_epoch_and_advice(recipe, dataset, tmp_path, change):
    settings = recipe.model_copy(update={**change, "schedule": "constant", "epochs": 9, "fraction": 1.0})
    sentence = r"network\.tiny: training 1 diverged in epoch [123], .* lower its lr \(found 1e\+06"
    with pytest.raises(ValueError, match=sentence):
        fit(settings, dataset, tmp_path)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_the_optimiser_is_the_one_that_was_asked_for(recipe, name, kind):
    settings = recipe.model_copy(update={"optimiser": name, "schedule": "constant"})
    assert type(Learner(network(), built(settings), settings).configure_optimizers()["optimizer"]) is kind


def test_a_label_is_the_split_s_own_or_a_true_or_false_column_of_meta(dataset):
    split = read_split(dataset, "train")
    np.testing.assert_array_equal(learnt_labels(split, "label"), split.labels)
    np.testing.assert_array_equal(learnt_labels(split, "tumor_patch"), split.meta["tumor_patch"])
    assert (learnt_labels(split, "tumor_patch") != split.labels).any()
    with pytest.raises(ValueError, match=r"unknown train\.label 'tumour_patch'; did you mean tumor_patch\?"):
        learnt_labels(split, "tumour_patch")
    with pytest.raises(ValueError, match=r"unknown train\.label .wsi.; known: label, tumor_patch, center_tumor_patch"):
        learnt_labels(split, "wsi")


def test_a_network_learns_the_label_that_was_asked_for(recipe, dataset, tmp_path):
    for label in ("label", "tumor_patch"):
        fit(recipe.model_copy(update={"label": label, "epochs": 1}), dataset, tmp_path / label)
    one, other = (read_history(tmp_path / label / "history") for label in ("label", "tumor_patch"))
    assert (one["train/loss"] != other["train/loss"]).all()
    assert (one["valid/auroc"] != other["valid/auroc"]).all()


def test_processes_without_a_validation_batch_are_refused_before_training(recipe, dataset, tmp_path):
    settings = recipe.model_copy(update={"devices": 9, "batch_size": 32, "fraction": 1.0})
    with pytest.raises(ValueError, match=r"a batch of 32 patches of valid for each of 9 processes, found \d+ patches"):
        fit(settings, dataset, tmp_path)


def test_other_bytes_in_the_weights_to_start_from_are_another_training(raw, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("PCAM_AGREEMENT_WORK", str(tmp_path / "work"))
    raw["network"]["alexnet"].update(weights=str(tmp_path / "weights.pth"), fraction=1e-6)
    raw["recipes"] = ["alexnet"]
    YAML().dump(raw, tmp_path / "params.yaml")
    paths = {"params": tmp_path / "params.yaml", "patches": dataset}
    outputs = {"checkpoint": tmp_path / "a.safetensors", "history": tmp_path / "history", "logits": tmp_path / "l.h5"}
    outputs["features"] = tmp_path / "none"
    args = Namespace(recipe="alexnet", training="1", **outputs, **paths)
    for content in (b"one", b"other", b"one"):
        (tmp_path / "weights.pth").write_bytes(content)
        with pytest.raises(ValueError, match="2 patches or more to train on"):
            train_stage.main(args)
    assert len(list((tmp_path / "work").iterdir())) == 2


def test_a_last_batch_of_one_patch_is_no_trouble(recipe, dataset, tmp_path):
    split = read_split(dataset, "train")
    assert len(split.labels) % recipe.batch_size == 1
    fit(recipe.model_copy(update={"epochs": 1, "fraction": 1.0}), dataset, tmp_path)
    state = load_classifier(tmp_path / "a.safetensors", CPU)
    assert network_logits(state, split.patches, CPU).shape == (33,)


def test_a_fraction_of_the_train_split_keeps_the_classes_in_their_share(dataset):
    labels = read_split(dataset, "train").labels
    index = stratified_sample(labels, 16, 0)
    assert len(np.unique(index)) == 16
    assert abs(labels[index].mean() - labels.mean()) < 1 / 16
    assert (index == stratified_sample(labels, 16, 0)).all()
    assert (stratified_sample(labels, 99, 0) == np.arange(33)).all()


SCRIPT = """
import sys
from pathlib import Path
from pcam_agreement.networks.recipes import Network
from pcam_agreement.training.fit import Files, train
from pcam_agreement.training.settings import Recipe
dataset = Path(sys.argv[1])
for folder, training, recipe in zip(map(Path, sys.argv[2::3]), sys.argv[3::3], sys.argv[4::3]):
    names = ("features.h5", "a.safetensors", "history", "logits.h5", "work")
    files = Files(dataset, *(folder / name for name in names))
    train(Network("tiny", training, "timm/test_resnet"), Recipe.model_validate_json(recipe), 0, "cpu", files)
"""


@pytest.fixture
def without_batch_norm(recipe) -> Recipe:
    """Settings of a network whose patches do not change each other's logits: every division of a batch is the same."""
    change = {"architecture": "timm/test_vit", "batch_size": 15, "fraction": 1.0, "stain_jitter": 0.1}
    # not Adam, which hides a wrong factor on the loss
    return recipe.model_copy(update={**change, "optimiser": "sgd", "lr": 0.02})


def assert_nearly_the_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], start: Recipe) -> None:
    """The same training up to rounding."""
    for name, drawn in built(start).backbone.state_dict().items():
        moved = (one[name] - drawn).abs().mean()
        assert (one[name] - other[name]).abs().mean() <= 0.01 * moved, name


def test_a_batch_computed_in_shares_trains_the_network_of_the_whole_batch(without_batch_norm, dataset, tmp_path):
    whole = fit(without_batch_norm, dataset, tmp_path / "whole")
    parts = fit(without_batch_norm.model_copy(update={"accumulate": 4}), dataset, tmp_path / "parts")
    assert_nearly_the_same(whole, parts, without_batch_norm)
    histories = [read_history(tmp_path / name / "history") for name in ("whole", "parts")]
    np.testing.assert_allclose(*histories, rtol=1e-3)


@pytest.mark.slow
def test_two_processes_train_and_validate_as_one(recipe, without_batch_norm, dataset, tmp_path):
    normed = recipe.model_copy(update={"epochs": 1, "fraction": 1.0, "batch_size": 4, "lr": 0.01})
    # five batches are validated: three and two
    both = {"trained": without_batch_norm, "validated": recipe, "normed": normed}
    arguments = []
    for name, settings in both.items():
        training = "untrained" if name == "validated" else "1"
        fit(settings, dataset, tmp_path / "one" / name, training)
        shared = settings.model_copy(update={"devices": 2})
        (tmp_path / "two" / name / "work").mkdir(parents=True)
        arguments += [str(tmp_path / "two" / name), training, shared.model_dump_json()]
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, str(tmp_path / "script.py"), str(dataset), *arguments], check=True, timeout=600)
    histories = {name: [read_history(tmp_path / count / name / "history") for count in ("one", "two")] for name in both}
    one, two = histories["validated"]
    assert one[["valid/accuracy", "valid/auroc"]].equals(two[["valid/accuracy", "valid/auroc"]])
    np.testing.assert_allclose(one["valid/loss"], two["valid/loss"], rtol=1e-12)
    np.testing.assert_allclose(*histories["trained"], rtol=1e-3)
    # The network that was validated is the one that is kept, batch norms and all.
    split, kept = read_split(dataset, "valid"), load_classifier(tmp_path / "two" / "normed" / "a.safetensors", CPU)
    state = metrics.scores(network_logits(kept, split.patches, CPU), split.labels, 0.0, 15)
    assert histories["normed"][1]["valid/loss"].item() == pytest.approx(state["nll"], rel=1e-5)
    networks_of_both = [load_file(tmp_path / count / "trained" / "a.safetensors") for count in ("one", "two")]
    assert_nearly_the_same(*networks_of_both, without_batch_norm)


@pytest.mark.slow
def test_a_killed_training_goes_on_within_its_epoch_and_ends_in_the_same_bytes(recipe, dataset, tmp_path):
    change = {"epochs": 3, "stain_jitter": 0.1, "fraction": 1.0, "batch_size": 4, "accumulate": 2}
    # not so small that an epoch is over before it is seen
    settings = recipe.model_copy(update={**change, "architecture": "timm/resnet10t"})
    fit(settings, dataset, tmp_path / "whole")
    folder = tmp_path / "killed"
    (folder / "work").mkdir(parents=True)
    often = settings.model_copy(update={"checkpoint_minutes": 0})
    command = [sys.executable, "-c", SCRIPT, str(dataset), str(folder), "1", often.model_dump_json()]
    last = folder / "work" / "last.ckpt"

    def steps() -> int:
        return torch.load(last, "cpu", weights_only=True, mmap=True)["global_step"] if last.exists() else 0

    process = subprocess.Popen(command, start_new_session=True)
    while not 8 < steps() < 14:  # in the second epoch of eight steps
        assert process.poll() is None, "training ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "a.safetensors").exists()
    assert steps() % 8
    fit(often, dataset, folder)
    whole = tmp_path / "whole"
    assert (folder / "a.safetensors").read_bytes() == (whole / "a.safetensors").read_bytes()
    ours = sorted(path.relative_to(whole) for path in (whole / "history").rglob("*") if path.is_file())
    assert ours == sorted(path.relative_to(folder) for path in (folder / "history").rglob("*") if path.is_file())
    for path in ours:
        assert (folder / path).read_bytes() == (whole / path).read_bytes(), path

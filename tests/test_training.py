"""Real training runs on a few patches: the settings do what they say, a killed run ends in the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pcam_agreement import inference, networks, params, pcam, store
from pcam_agreement.training import Learner, learnt_labels, train

CPU = torch.device("cpu")


@pytest.fixture
def network(raw) -> params.Network:
    """Settings of the smallest network, two epochs."""
    raw["network"]["tiny"] = {"architecture": "timm/resnet10t", "epochs": 2, "batch_size": 16}
    raw["networks"] = ["tiny", "alexnet"]
    return params.check(raw).network["tiny"]


def fit(settings: params.Network, dataset: Path, folder: Path) -> dict[str, torch.Tensor]:
    """What the checkpoint of a training run holds."""
    (folder / "work").mkdir(parents=True)
    train(settings, "cpu", dataset, folder / "a.safetensors", folder / "history", folder / "work")
    return load_file(folder / "a.safetensors")


def built(settings: params.Network) -> networks.Classifier:
    """The network as training starts with it."""
    torch.manual_seed(settings.seed)
    return networks.build(settings.architecture, settings.weights, settings.input)


def test_training_writes_the_best_checkpoint_and_a_row_an_epoch(network, dataset, tmp_path):
    fit(network, dataset, tmp_path)
    history = store.read_history(tmp_path / "history")
    assert list(history.columns) == ["train/loss", "valid/accuracy", "valid/auroc", "valid/loss"]
    assert history.index.tolist() == [0, 1]
    trained = networks.load(tmp_path / "a.safetensors", CPU)
    split = pcam.read(dataset, "valid")
    logits = inference.logits(trained, split.patches, 16, CPU)
    from sklearn.metrics import roc_auc_score

    assert roc_auc_score(split.labels, logits) == pytest.approx(history["valid/auroc"].max(), abs=1e-6)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(network, dataset, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit(network.model_copy(update={"seed": seed, "epochs": 1}), dataset, tmp_path / name)
    first, again, other = ((tmp_path / name / "a.safetensors").read_bytes() for name in "abc")
    assert first == again
    assert first != other


def test_zero_epochs_leave_the_network_as_it_was_drawn(network, dataset, tmp_path):
    settings = network.model_copy(update={"epochs": 0})
    found = fit(settings, dataset, tmp_path)
    assert all(torch.equal(tensor, found[name]) for name, tensor in built(settings).backbone.state_dict().items())
    assert list(store.read_history(tmp_path / "history").columns) == ["valid/accuracy", "valid/auroc", "valid/loss"]


def test_freezing_trains_the_head_and_holds_the_batch_norm_statistics(network, dataset, tmp_path):
    settings = network.model_copy(update={"freeze": True, "epochs": 1})
    found = fit(settings, dataset, tmp_path)
    changed = {
        name for name, tensor in built(settings).backbone.state_dict().items() if not torch.equal(tensor, found[name])
    }
    assert changed == {"fc.weight", "fc.bias"}


def test_training_stops_early_when_validation_does_not_improve(network, dataset, tmp_path):
    settings = network.model_copy(update={"epochs": 9, "patience": 1, "lr": 1e-12, "schedule": "constant"})
    fit(settings, dataset, tmp_path)
    assert len(store.read_history(tmp_path / "history")) < 9


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_the_optimiser_is_the_one_that_was_asked_for(network, name, kind):
    settings = network.model_copy(update={"optimiser": name, "schedule": "constant"})
    assert type(Learner(built(settings), settings).configure_optimizers()["optimizer"]) is kind


def test_a_label_is_the_split_s_own_or_a_true_or_false_column_of_meta(dataset):
    split = pcam.read(dataset, "train")
    np.testing.assert_array_equal(learnt_labels(split, "label"), split.labels)
    np.testing.assert_array_equal(learnt_labels(split, "tumor_patch"), split.meta["tumor_patch"])
    assert (learnt_labels(split, "tumor_patch") != split.labels).any()
    with pytest.raises(ValueError, match=r"unknown train\.label 'tumour_patch'; did you mean tumor_patch\?"):
        learnt_labels(split, "tumour_patch")
    with pytest.raises(ValueError, match=r"unknown train\.label .wsi.; known: label, tumor_patch, center_tumor_patch"):
        learnt_labels(split, "wsi")


def test_a_network_learns_the_label_that_was_asked_for(network, dataset, tmp_path):
    for label in ("label", "tumor_patch"):
        fit(network.model_copy(update={"label": label, "epochs": 1}), dataset, tmp_path / label)
    one, other = (store.read_history(tmp_path / label / "history") for label in ("label", "tumor_patch"))
    assert (one["train/loss"] != other["train/loss"]).all()
    assert (one["valid/auroc"] != other["valid/auroc"]).all()


def test_a_last_batch_of_one_patch_is_no_trouble(network, dataset, tmp_path):
    split = pcam.read(dataset, "train")
    assert len(split.labels) % 16 == 1
    fit(network.model_copy(update={"epochs": 1}), dataset, tmp_path)
    found = networks.load(tmp_path / "a.safetensors", CPU)
    assert inference.logits(found, split.patches, 16, CPU).shape == (33,)


def test_a_fraction_of_the_train_split_keeps_the_classes_in_their_share(dataset):
    labels = pcam.read(dataset, "train").labels
    index = pcam.draw(labels, 16, 0)
    assert len(np.unique(index)) == 16
    assert abs(labels[index].mean() - labels.mean()) < 1 / 16
    assert (index == pcam.draw(labels, 16, 0)).all()
    assert (pcam.draw(labels, 99, 0) == np.arange(33)).all()


SCRIPT = """
import sys
from pathlib import Path
from pcam_agreement import params
from pcam_agreement.training import train
settings = params.Network.model_validate_json(sys.argv[1])
dataset, folder = Path(sys.argv[2]), Path(sys.argv[3])
train(settings, "cpu", dataset, folder / "a.safetensors", folder / "history", folder / "work")
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_in_the_same_bytes(network, dataset, tmp_path):
    settings = network.model_copy(update={"epochs": 4, "stain_jitter": 0.1})
    fit(settings, dataset, tmp_path / "whole")
    folder = tmp_path / "killed"
    (folder / "work").mkdir(parents=True)
    command = [sys.executable, "-c", SCRIPT, settings.model_dump_json(), str(dataset), str(folder)]
    rows = folder / "history" / "plots" / "metrics" / "valid" / "auroc.tsv"
    process = subprocess.Popen(command, start_new_session=True)
    while not (rows.exists() and len(rows.read_text().splitlines()) >= 3):  # a header and two epochs
        assert process.poll() is None, "training ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "a.safetensors").exists()
    assert (folder / "work" / "last.ckpt").exists()
    subprocess.run(command, check=True)
    whole = tmp_path / "whole"
    assert (folder / "a.safetensors").read_bytes() == (whole / "a.safetensors").read_bytes()
    ours = sorted(path.relative_to(whole) for path in (whole / "history").rglob("*") if path.is_file())
    assert ours == sorted(path.relative_to(folder) for path in (folder / "history").rglob("*") if path.is_file())
    for path in ours:
        assert (folder / path).read_bytes() == (whole / path).read_bytes(), path

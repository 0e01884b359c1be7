"""One network -> its best checkpoint by validation AUROC, its history and its logits; Lightning runs the loop."""

import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from pcam_agreement.core import resume
from pcam_agreement.core.files import write_arrays
from pcam_agreement.core.names import named
from pcam_agreement.data.pcam import Split, read_split, stratified_sample
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.networks.classifier import build_classifier
from pcam_agreement.networks.device import choose_device
from pcam_agreement.networks.logits import network_logits
from pcam_agreement.networks.recipes import Network
from pcam_agreement.training.batches import Data
from pcam_agreement.training.callbacks import AtomicIO, History, Interval
from pcam_agreement.training.features import Head, read_features
from pcam_agreement.training.learner import Learner
from pcam_agreement.training.settings import Recipe
from pcam_agreement.training.untrained import PATCHES, untrained_classifier

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
# `batches.Shuffled` asks the trainer where an interrupted epoch stopped; Lightning expects a state of its own.
warnings.filterwarnings("ignore", ".*your dataloader is not resumable")
warnings.filterwarnings("ignore", ".*in eval mode at the start of training")  # a frozen network's are meant to be
PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def learnt_labels(split: Split, name: str) -> np.ndarray:
    """What a network learns, uint8 [N] of 0 and 1: `label`, the split's own, or a column of meta that is true or false.

    Raises ValueError where there is no such column.
    """
    known = {"label": split.labels, **split.meta.select_dtypes(bool)}
    return np.asarray(named("train.label", name, known), np.uint8)


@dataclass(frozen=True)
class Files:
    """What a training reads, the folder of patches and the file of features, and what it writes.

    work: the folder where it is unfinished.
    """

    patches: Path
    features: Path
    checkpoint: Path
    history: Path
    logits: Path
    work: Path


def train(network: Network, settings: Recipe, sample: int, device: str, files: Files) -> None:
    """Train one network and write its best checkpoint, its history and its logits; continue what `work` holds.

    An untrained network, and one that is given (zero epochs), is saved as it was built, after one validation. sample:
    the seed of the choice of training patches; everything else depends on the network's own. In the file of logits:
    {valid,test}_logits float32 and {valid,test}_labels uint8, each [N].

    Raises ValueError where the device, the weights or the data are not what was asked for, before training starts, and
    where training diverges.
    """
    on, epochs = choose_device(device, settings.devices), settings.epochs if network.trained else 0
    train_split, valid_split = read_split(files.patches, "train"), read_split(files.patches, "valid")
    labels, valid_labels = (learnt_labels(split, settings.label) for split in (train_split, valid_split))
    index = stratified_sample(labels, max(1, round(settings.fraction * len(labels))), sample)
    _check_sizes(settings, len(index), len(valid_labels))
    seed_everything(network.seed % 2**32, verbose=False)
    if network.trained:
        classifier = build_classifier(
            settings.architecture,
            settings.weights.replace("{training}", network.training),
            settings.input,
            epochs > 0,
            settings.normalisation,
            settings.tumour_class,
            settings.pooling,
            settings.options.items(),
        )
        if settings.freeze:
            classifier.freeze(settings.unfreeze)
        # An EfficientNet's would start with weights up to 1: its gradients would undo what the others have learnt.
        if settings.weights != "none" and classifier.head_is_new:
            head: Any = classifier.head_layer()
            head.reset_parameters()
    else:
        count = len(train_split.patches)
        chosen = np.random.default_rng(sample).choice(count, min(PATCHES, count), replace=False)
        patches = train_split.patches[np.sort(chosen)]
        classifier = untrained_classifier(
            settings.architecture,
            settings.input,
            patches,
            settings.normalisation,
            settings.pooling,
            settings.options.items(),
        )
    splits = (train_split, valid_split, read_split(files.patches, "test"))
    inputs: dict[str, np.ndarray] = {split.name: split.patches for split in splits}
    model: nn.Module = classifier
    if network.trained and settings.features_once:
        inputs, model = read_features(files.features, classifier), Head(classifier)
    classifier.to(memory_format=torch.channels_last)  # as for inference: most networks are faster so
    learner = Learner(network, model, settings)
    valid = (inputs["valid"], valid_labels, np.arange(len(valid_labels)))
    data = Data((inputs["train"], labels, index), valid, settings, network.seed)
    best = ModelCheckpoint(
        files.work,
        "best",
        monitor="valid_auroc",
        mode="max",
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    log, last = History(files.history), files.work / "last.ckpt"
    stop = [EarlyStopping("valid_auroc", mode="max", patience=settings.patience)] if settings.patience else []
    trainer = Trainer(
        accelerator="gpu" if on.type == "cuda" else "cpu",
        devices=settings.devices,
        num_nodes=settings.nodes,
        # The first process's batch-norm statistics are shared before validation, not before every step.
        strategy=DDPStrategy(forward_sync_buffers=False) if settings.devices * settings.nodes > 1 else "auto",
        plugins=[AtomicIO()],
        precision=PRECISION[settings.precision],
        max_epochs=epochs,
        accumulate_grad_batches=settings.accumulate,
        callbacks=[log, best, Interval(last, settings.checkpoint_minutes), *stop],
        logger=False,
        default_root_dir=files.work,
        deterministic="warn",
        num_sanity_val_steps=0,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )
    try:
        if epochs == 0:
            trainer.validate(learner, data, verbose=False)
            log.close()
            if network.trained and (auroc := float(trainer.callback_metrics["valid_auroc"])) < 0.5:
                print(
                    f"WARNING: {network.name} has a validation AUROC of {auroc:.3f}: its classes may be swapped; set "
                    f"network.{network.recipe}.tumour_class to {1 - settings.tumour_class}.",
                    file=sys.stderr,
                )
        else:
            trainer.fit(learner, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    except SystemExit as ended:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from ended
    if trainer.is_global_zero:
        if epochs:
            learner.load_state_dict(torch.load(best.best_model_path, "cpu", weights_only=True)["state_dict"])
        save_checkpoint(classifier, files.checkpoint)
        model.eval().to(on)
        arrays = {}
        for split in splits[1:]:
            arrays[f"{split.name}_logits"] = network_logits(model, inputs[split.name], on)
            _check_finite(network, split.name, arrays[f"{split.name}_logits"])
            arrays[f"{split.name}_labels"] = split.labels
        write_arrays(files.logits, arrays)
        resume.remove(files.work)


def _check_finite(network: Network, split: str, logits: np.ndarray) -> None:
    """Raise ValueError where a logit is not finite: nothing can be said of such a network."""
    broken = len(logits) - int(np.isfinite(logits).sum())
    if broken:
        raise ValueError(
            f"network.{network.recipe}: {broken} of {len(logits)} {split} logits of {network.name} are not "
            "finite; lower its lr and train it again, or choose another architecture."
        )


def _check_sizes(settings: Recipe, train: int, valid: int) -> None:
    """Raise ValueError where there are too few patches of train or valid for the shares of a batch."""
    if train < 2 * settings.shares:
        raise ValueError(
            f"expected {2 * settings.shares} patches or more to train on, found {train}; raise train.fraction."
        )
    processes = settings.devices * settings.nodes
    if valid <= (processes - 1) * settings.batch_size:
        raise ValueError(
            f"expected a batch of {settings.batch_size} patches of valid for each of {processes} processes, found "
            f"{valid} patches; lower train.batch_size or train.devices."
        )

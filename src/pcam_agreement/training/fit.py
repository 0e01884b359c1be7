"""One network -> its best checkpoint by validation AUROC, its history and its logits; Lightning runs the loop."""

import logging
import sys
import warnings
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from pcam_agreement.core.files import write_arrays
from pcam_agreement.core.names import named
from pcam_agreement.data.pcam import Split, read_split, stratified_sample
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.networks.classifier import build_classifier
from pcam_agreement.networks.device import choose_device
from pcam_agreement.networks.logits import network_logits
from pcam_agreement.training.batches import Data
from pcam_agreement.training.callbacks import AtomicIO, History, Interval
from pcam_agreement.training.learner import Learner
from pcam_agreement.training.settings import Network

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
# `batches.Shuffled` asks the trainer where an interrupted epoch stopped; Lightning expects a state of its own.
warnings.filterwarnings("ignore", ".*your dataloader is not resumable")
PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def learnt_labels(split: Split, name: str) -> np.ndarray:
    """What a network learns, uint8 [N] of 0 and 1: `label`, the split's own, or a column of meta that is true or false.

    Raises ValueError where there is no such column.
    """
    known = {"label": split.labels, **split.meta.select_dtypes(bool)}
    return np.asarray(named("train.label", name, known), np.uint8)


def train(
    name: str,
    settings: Network,
    device: str,
    patches: Path,
    checkpoint: Path,
    history: Path,
    logits: Path,
    work: Path,
) -> None:
    """Train one network and write its best checkpoint, its history and its logits; continue what `work` holds.

    With zero epochs the network is saved as it was built (untrained, with weights none), after one validation. In the
    file of logits: {valid,test}_logits float32 and {valid,test}_labels uint8, each [N].

    Raises ValueError where the device, the weights or the data are not what was asked for, before training starts, and
    where training diverges.
    """
    on = choose_device(device, settings.devices)
    train_split, valid_split = read_split(patches, "train"), read_split(patches, "valid")
    labels, valid_labels = (learnt_labels(split, settings.label) for split in (train_split, valid_split))
    index = stratified_sample(labels, max(1, round(settings.fraction * len(labels))), settings.seed)
    _check_sizes(settings, len(index), len(valid_labels))
    seed_everything(settings.seed, verbose=False)
    learner = Learner(name, build_classifier(settings.architecture, settings.weights, settings.input), settings)
    if settings.freeze:
        learner.classifier.freeze()
    valid = (valid_split.patches, valid_labels, np.arange(len(valid_labels)))
    data = Data((train_split.patches, labels, index), valid, settings, settings.seed)
    best = ModelCheckpoint(
        work,
        "best",
        monitor="valid_auroc",
        mode="max",
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    log, last = History(history), work / "last.ckpt"
    stop = [EarlyStopping("valid_auroc", mode="max", patience=settings.patience)] if settings.patience else []
    trainer = Trainer(
        accelerator="gpu" if on.type == "cuda" else "cpu",
        devices=settings.devices,
        num_nodes=settings.nodes,
        # The first process's batch-norm statistics are shared before validation, not before every step.
        strategy=DDPStrategy(forward_sync_buffers=False) if settings.devices * settings.nodes > 1 else "auto",
        plugins=[AtomicIO()],
        precision=PRECISION[settings.precision],
        max_epochs=settings.epochs,
        accumulate_grad_batches=settings.accumulate,
        callbacks=[log, best, Interval(last, settings.checkpoint_minutes), *stop],
        logger=False,
        default_root_dir=work,
        deterministic="warn",
        num_sanity_val_steps=0,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )
    try:
        if settings.epochs == 0:
            trainer.validate(learner, data, verbose=False)
            log.close()
        else:
            trainer.fit(learner, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    except SystemExit as ended:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from ended
    if trainer.is_global_zero:
        if settings.epochs:
            learner.load_state_dict(torch.load(best.best_model_path, "cpu", weights_only=True)["state_dict"])
        save_checkpoint(learner.classifier, checkpoint)
        network = learner.classifier.eval().to(on).to(memory_format=torch.channels_last)
        arrays = {}
        for split in (valid_split, read_split(patches, "test")):
            arrays[f"{split.name}_logits"] = network_logits(network, split.patches, on)
            _check_finite(name, split.name, arrays[f"{split.name}_logits"])
            arrays[f"{split.name}_labels"] = split.labels
        write_arrays(logits, arrays)
        rmtree(work, ignore_errors=True)


def _check_finite(name: str, split: str, logits: np.ndarray) -> None:
    """Raise ValueError where a logit is not finite: nothing can be said of such a network."""
    broken = len(logits) - int(np.isfinite(logits).sum())
    if broken:
        raise ValueError(
            f"network.{name}: {broken} of {len(logits)} logits on {split} are not finite; lower its lr and train it "
            "again, or choose another architecture."
        )


def _check_sizes(settings: Network, train: int, valid: int) -> None:
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

"""One network -> its best checkpoint by validation AUROC, and its history; Lightning runs the loop."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from dvclive import Live
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from pcam_agreement import names, networks, pcam
from pcam_agreement.augmentation import augment, draws
from pcam_agreement.loading import Batch, Data
from pcam_agreement.params import Network

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
# `loading.Shuffled` asks the trainer where an interrupted epoch stopped; Lightning looks for a state of its own.
warnings.filterwarnings("ignore", ".*your dataloader is not resumable")
PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


class Learner(LightningModule):
    """The training and validation steps of a classifier."""

    def __init__(self, classifier: networks.Classifier, settings: Network) -> None:
        super().__init__()
        self.classifier, self.settings = classifier, settings
        self.run = torch.compile(classifier) if settings.compile else classifier
        self.losses = torch.zeros(2, dtype=torch.float64)  # of this epoch, in this process: their sum, and of how many
        self.valid_loss = MeanMetric().set_dtype(torch.float64)
        self.accuracy, self.auroc = BinaryAccuracy(), BinaryAUROC()

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """The loss of this part of a batch, so scaled that the mean over all parts is the mean over the batch."""
        patches, labels, (start, whole) = batch
        settings, accumulate = self.settings, self.settings.accumulate
        # Augmentation depends on the seed, the step and the place in the batch alone, dropout on the process beside:
        # a resumed run draws the same.
        torch.manual_seed(_seed(settings.seed, self.current_epoch, number, self.global_rank))
        drawn = draws(whole, _seed(settings.seed, self.current_epoch, number // accumulate))
        drawn = drawn[start : start + len(labels)]
        inputs = augment(
            networks.to_float(patches), drawn, settings.flips, settings.quarter_turns, settings.stain_jitter
        )
        loss = binary_cross_entropy_with_logits(self.run(inputs), labels.float(), reduction="sum")
        self.losses += torch.stack([loss.detach().double(), loss.new_tensor(len(labels)).double()])
        return loss * accumulate * self.trainer.world_size / whole

    def on_validation_start(self) -> None:
        # As in the checkpoint, the first process's batch-norm statistics are the network's.
        if self.trainer.world_size > 1:
            for buffer in self.classifier.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, _: int) -> None:
        logits, labels = self.run(networks.to_float(batch[0])).double(), batch[1]
        self.valid_loss.update(binary_cross_entropy_with_logits(logits, labels.double()), len(labels))
        # torchmetrics guesses whether it was given logits, batch by batch: give it probabilities.
        probability = torch.sigmoid(logits)
        self.accuracy.update(probability, labels)
        self.auroc.update(probability, labels)
        self.log("valid_loss", self.valid_loss)
        self.log("valid_accuracy", self.accuracy)
        self.log("valid_auroc", self.auroc, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.state.fn == "fit":
            total, count = self._all_losses()
            self.log("train_loss", total / count, sync_dist=True)
            self.losses.zero_()

    def on_fit_start(self) -> None:
        self.losses = self.losses.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["losses"] = self._all_losses()

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        if self.global_rank == 0:
            self.losses = checkpoint["losses"]

    def _all_losses(self) -> Tensor:
        return self.trainer.strategy.reduce(self.losses.clone(), reduce_op="sum")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.settings
        parameters = [parameter for parameter in self.classifier.parameters() if parameter.requires_grad]
        if settings.optimiser == "sgd":
            optimiser: torch.optim.Optimizer = torch.optim.SGD(
                parameters, settings.lr, momentum=0.9, weight_decay=settings.weight_decay
            )
        else:
            kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[settings.optimiser]
            optimiser = kind(parameters, settings.lr, weight_decay=settings.weight_decay, fused=True)
        if settings.schedule == "constant":
            return {"optimizer": optimiser}
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.lr, total_steps=steps, pct_start=0.1)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class AtomicIO(TorchCheckpointIO):
    """A checkpoint is there whole or not at all, whenever the process is killed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        partial = Path(f"{path}.partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, partial)
        partial.replace(path)


class Interval(Callback):
    """Saves where training is, also within an epoch, so that a killed run loses at most so many minutes."""

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.seconds, self.saved = path, 60 * minutes, time.monotonic()

    def on_save_checkpoint(self, trainer: Trainer, _: LightningModule, checkpoint: dict) -> None:
        self.saved = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, _: LightningModule, outputs: Any, batch: Any, number: int) -> None:
        stepped = (number + 1) % trainer.accumulate_grad_batches == 0
        if stepped and not trainer.is_last_batch:  # behind the last, the epoch is saved
            due = time.monotonic() - self.saved >= self.seconds
            if trainer.strategy.reduce_boolean_decision(due, all=False):
                trainer.save_checkpoint(self.path)


class History(Callback):
    """Logs every epoch with DVCLive. The rows are part of the checkpoint: a resumed run writes them again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, []  # type: tuple[Path, list[dict[str, float]]]
        self.live: Live | None = None

    def state_dict(self) -> dict:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict) -> None:
        self.rows = state_dict["rows"]

    def on_fit_start(self, trainer: Trainer, _: LightningModule) -> None:
        self.open(trainer)
        for row in self.rows:
            self._write(row)

    def on_train_epoch_end(self, trainer: Trainer, _: LightningModule) -> None:
        self._record(trainer)

    def on_validation_end(self, trainer: Trainer, _: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._record(trainer)

    def _record(self, trainer: Trainer) -> None:
        names = ("train_loss", "valid_loss", "valid_accuracy", "valid_auroc")
        metrics = trainer.callback_metrics
        self.rows.append({name.replace("_", "/", 1): float(metrics[name]) for name in names if name in metrics})
        self.open(trainer)
        self._write(self.rows[-1])

    def on_fit_end(self, trainer: Trainer, _: LightningModule) -> None:
        self.close()

    def open(self, trainer: Trainer) -> None:
        if self.live is None and trainer.is_global_zero:
            # DVC already tracks the folder: no dvc.yaml, and no experiment, of DVCLive's own.
            self.live = Live(str(self.folder), dvcyaml=False, save_dvc_exp=False)

    def close(self) -> None:
        if self.live is not None:
            self.live.end()

    def _write(self, row: dict[str, float]) -> None:
        if self.live is not None:
            for name, value in row.items():
                self.live.log_metric(name, value)
            self.live.next_step()


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def learnt_labels(split: pcam.Split, name: str) -> np.ndarray:
    """What a network learns, uint8 [N] of 0 and 1: `label`, the split's own, or a column of meta that is true or false.

    Raises ValueError where there is no such column.
    """
    known = {"label": split.labels, **split.meta.select_dtypes(bool)}
    return np.asarray(names.named("train.label", name, known), np.uint8)


def train(settings: Network, device: str, patches: Path, checkpoint: Path, history: Path, work: Path) -> None:
    """Train one network and write its best checkpoint and its history; continue what `work` holds.

    With zero epochs the network is saved as it was built (untrained, with weights none), after one validation.
    Raises ValueError where the device, the weights or the data are not what was asked for, before training starts.
    """
    on = networks.device(device, settings.devices)
    train_split, valid_split = pcam.read(patches, "train"), pcam.read(patches, "valid")
    labels, valid_labels = (learnt_labels(split, settings.label) for split in (train_split, valid_split))
    index = pcam.draw(labels, max(1, round(settings.fraction * len(labels))), settings.seed)
    parts = settings.accumulate * settings.devices * settings.nodes
    if len(index) < 2 * parts:
        raise ValueError(f"expected {2 * parts} patches or more to train on, found {len(index)}; raise train.fraction.")
    processes = settings.devices * settings.nodes
    if len(valid_labels) <= (processes - 1) * settings.batch_size:
        raise ValueError(
            f"expected a batch of {settings.batch_size} patches of valid for each of {processes} processes, found "
            f"{len(valid_labels)} patches; lower train.batch_size or train.devices."
        )
    seed_everything(settings.seed, verbose=False)
    learner = Learner(networks.build(settings.architecture, settings.weights, settings.input), settings)
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
    if settings.epochs == 0:
        trainer.validate(learner, data, verbose=False)
        log.close()
    else:
        trainer.fit(learner, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    if trainer.is_global_zero:
        if settings.epochs:
            learner.load_state_dict(torch.load(best.best_model_path, "cpu", weights_only=True)["state_dict"])
        networks.save(learner.classifier, checkpoint)
        rmtree(work, ignore_errors=True)

"""One network -> its best checkpoint by validation AUROC, and its history; Lightning runs the loop."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dvclive import Live
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset, Sampler
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from pcam_agreement import networks, params, pcam
from pcam_agreement.augmentation import augment
from pcam_agreement.params import Network

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


class Patches(Dataset):
    """Patches and labels by index, a batch at a time: uint8 [b, 96, 96, 3] as they lie in the file."""

    def __init__(self, split: pcam.Split, labels: np.ndarray, index: np.ndarray) -> None:
        self.split, self.labels, self.index = split, labels, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitems__(self, items: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = self.index[items]
        return torch.from_numpy(self.split.patches[chosen]), torch.from_numpy(self.labels[chosen])


class Shuffled(Sampler[int]):
    """A permutation that depends on the seed and the epoch alone, so that a resumed run sees the same order."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng((self.seed, self.epoch)).permutation(self.count).tolist())


class Learner(LightningModule):
    """The training and validation steps of a classifier."""

    def __init__(self, classifier: networks.Classifier, settings: Network) -> None:
        super().__init__()
        self.classifier, self.settings = classifier, settings
        self.run = torch.compile(classifier) if settings.compile else classifier
        self.train_loss, self.valid_loss = MeanMetric(), MeanMetric()
        self.accuracy, self.auroc = BinaryAccuracy(), BinaryAUROC()

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        # Augmentation and dropout depend on the seed and the step alone: a resumed run draws the same.
        sequence = np.random.SeedSequence((self.settings.seed, self.current_epoch, number, self.global_rank))
        torch.manual_seed(int(sequence.generate_state(1)[0]))
        patches, labels = networks.to_float(batch[0]), batch[1].float()
        settings = self.settings
        patches = augment(patches, settings.flips, settings.quarter_turns, settings.stain_jitter)
        loss = binary_cross_entropy_with_logits(self.run(patches), labels)
        self.train_loss.update(loss.detach(), len(labels))
        self.log("train_loss", self.train_loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        logits, labels = self.run(networks.to_float(batch[0])).float(), batch[1]
        self.valid_loss.update(binary_cross_entropy_with_logits(logits, labels.float()), len(labels))
        # torchmetrics guesses whether it was given logits, batch by batch: give it probabilities.
        probability = torch.sigmoid(logits.double())
        self.accuracy.update(probability, labels)
        self.auroc.update(probability, labels)
        self.log("valid_loss", self.valid_loss)
        self.log("valid_accuracy", self.accuracy)
        self.log("valid_auroc", self.auroc, prog_bar=True)

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


def learnt_labels(split: pcam.Split, name: str) -> np.ndarray:
    """What a network learns, uint8 [N] of 0 and 1: `label`, the split's own, or a column of meta that is true or false.

    Raises ValueError where there is no such column.
    """
    known = {"label": split.labels, **split.meta.select_dtypes(bool)}
    return np.asarray(params.named("train.label", name, known), np.uint8)


def train(settings: Network, device: str, patches: Path, checkpoint: Path, history: Path, work: Path) -> None:
    """Train one network and write its best checkpoint and its history; continue what `work` holds.

    With zero epochs the network is saved as it was built (untrained, with weights none), after one validation.
    Raises ValueError where the device, the weights or the data are not what was asked for, before training starts.
    """
    on = networks.device(device)
    train_split, valid_split = pcam.read(patches, "train"), pcam.read(patches, "valid")
    labels, valid_labels = (learnt_labels(split, settings.label) for split in (train_split, valid_split))
    index = pcam.draw(labels, max(1, round(settings.fraction * len(labels))), settings.seed)
    seed_everything(settings.seed, verbose=False)
    learner = Learner(networks.build(settings.architecture, settings.weights, settings.input), settings)
    if settings.freeze:
        learner.classifier.freeze()
    batch = settings.batch_size
    train_loader = DataLoader(
        Patches(train_split, labels, index),
        batch,
        sampler=Shuffled(len(index), settings.seed),
        collate_fn=lambda items: items,
        drop_last=len(index) % batch == 1,  # batch norm cannot be trained on one patch
    )
    valid_patches = Patches(valid_split, valid_labels, np.arange(len(valid_labels)))
    valid_loader = DataLoader(valid_patches, batch, collate_fn=lambda items: items)
    best = ModelCheckpoint(
        work,
        "best",
        monitor="valid_auroc",
        mode="max",
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    log = History(history)
    stop = [EarlyStopping("valid_auroc", mode="max", patience=settings.patience)] if settings.patience else []
    trainer = Trainer(
        accelerator="gpu" if on.type == "cuda" else "cpu",
        devices=settings.devices,
        num_nodes=settings.nodes,
        precision=PRECISION[settings.precision],
        max_epochs=settings.epochs,
        callbacks=[log, best, *stop],
        logger=False,
        default_root_dir=work,
        deterministic="warn",
        num_sanity_val_steps=0,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )
    if settings.epochs == 0:
        trainer.validate(learner, valid_loader, verbose=False)
        log.close()
    else:
        last = work / "last.ckpt"
        trainer.fit(learner, train_loader, valid_loader, ckpt_path=last if last.exists() else None, weights_only=True)
        state = torch.load(best.best_model_path, "cpu", weights_only=True)["state_dict"]
        learner.load_state_dict(state)
    if trainer.is_global_zero:
        networks.save(learner.classifier, checkpoint)

"""What Lightning does beside the training loop: checkpoints that a killed run goes on from, and the history."""

import time
from pathlib import Path
from typing import Any

import torch
from dvclive import Live
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from pcam_agreement.core.files import atomic_file

ASK_EVERY = 50  # steps of several processes


class AtomicIO(TorchCheckpointIO):
    """A checkpoint is there whole or not at all, whenever the process is killed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with atomic_file(Path(path)) as partial:
            torch.save(checkpoint, partial)


class Interval(Callback):
    """Saves where training is, also within an epoch, so that a killed run loses at most so many minutes."""

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.seconds, self.saved = path, 60 * minutes, time.monotonic()

    def on_save_checkpoint(self, trainer: Trainer, _: LightningModule, checkpoint: dict) -> None:
        self.saved = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, _: LightningModule, outputs: Any, batch: Any, number: int) -> None:
        steps, shares = divmod(number + 1, trainer.accumulate_grad_batches)
        # Several processes have to agree on whether it is time, for which GPUs wait.
        asked = shares == 0 and (trainer.world_size == 1 or steps % ASK_EVERY == 0)
        if asked and not trainer.is_last_batch:  # behind the last, the epoch is saved
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

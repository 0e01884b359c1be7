"""The training and validation steps of a classifier, its optimiser and its schedule."""

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from pcam_agreement.core.seeds import seed_of
from pcam_agreement.networks.classifier import to_float
from pcam_agreement.networks.recipes import Network
from pcam_agreement.training.augmentation import augment, random_numbers
from pcam_agreement.training.batches import Batch
from pcam_agreement.training.settings import Recipe

CHECK_EVERY = 50  # steps between checks whether training has diverged
LARGEST = 1e4  # mean training loss of a patch from which no training comes back; guessing has 0.7


class Learner(LightningModule):
    """The training and validation steps of a classifier, or of its head, on batches of features."""

    def __init__(self, network: Network, classifier: nn.Module, settings: Recipe) -> None:
        super().__init__()
        self.network, self.classifier, self.settings = network, classifier, settings
        self.run = torch.compile(classifier) if settings.compile else classifier
        self.losses = torch.zeros(2, dtype=torch.float64)  # of this epoch, in this process: their sum, and of how many
        self.valid_loss = MeanMetric().set_dtype(torch.float64)
        self.accuracy, self.auroc = BinaryAccuracy(), BinaryAUROC()

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """The loss of this share of a batch, so scaled that the mean over all shares is the mean over the batch."""
        patches, labels, (start, whole) = batch
        settings, accumulate, seed = self.settings, self.settings.accumulate, self.network.seed
        # Augmentation depends on the seed, the step and the place in the batch alone, dropout also on the process:
        # a resumed run has the same random numbers.
        self._seed_dropout(seed_of(seed, self.current_epoch, number, self.global_rank))
        inputs = to_float(patches)
        if not settings.features_once:
            random = random_numbers(whole, seed_of(seed, self.current_epoch, number // accumulate))
            random = random[start : start + len(labels)]
            inputs = augment(inputs, random, settings.flips, settings.quarter_turns, settings.stain_jitter)
        loss = binary_cross_entropy_with_logits(self.run(inputs), labels.float(), reduction="sum")
        self.losses += torch.stack([loss.detach().double(), loss.new_full((), len(labels)).double()])
        if number % CHECK_EVERY == 0:  # a GPU would wait for it at every step
            self._check(self.losses[0] / self.losses[1], "training", LARGEST)
        return loss * accumulate * self.trainer.world_size / whole

    def _seed_dropout(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":  # torch.manual_seed would keep a call of each step where there is none
            torch.cuda.manual_seed(seed)

    def on_validation_start(self) -> None:
        # As in the checkpoint, the first process's batch-norm statistics are the network's.
        if self.trainer.world_size > 1:
            for buffer in self.classifier.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, _: int) -> None:
        logits, labels = self.run(to_float(batch[0])).double(), batch[1]
        self.valid_loss.update(binary_cross_entropy_with_logits(logits, labels.double()), len(labels))
        # torchmetrics guesses whether it was given logits, batch by batch: give it probabilities.
        probability = torch.sigmoid(logits)
        self.accuracy.update(probability, labels)
        self.auroc.update(probability, labels)
        self.log("valid_loss", self.valid_loss)
        self.log("valid_accuracy", self.accuracy)
        self.log("valid_auroc", self.auroc, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        # An untrained network's may be as large as it likes.
        self._check(self.valid_loss.compute(), "validation", torch.inf)
        if self.trainer.state.fn == "fit":
            total, count = self._all_losses()
            self._check(total / count, "training", LARGEST)
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

    def _check(self, loss: Tensor, name: str, largest: float) -> None:
        """Raise ValueError where a loss is not below this limit, or NaN."""
        if not loss < largest:
            raise ValueError(
                f"network.{self.network.recipe}: training {self.network.training} diverged in epoch "
                f"{self.current_epoch + 1}, the {name} loss is "
                f"{loss:.3g}; lower its lr (found {self.settings.lr:g}), or use precision 32."
            )

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
        if steps < 2:  # the rate of a cycle of one is nearly 0
            raise ValueError(
                f"network.{self.network.recipe}: expected at least 2 training steps for a cosine schedule, found "
                f"{steps}; raise epochs or fraction, lower batch_size, or set schedule to constant."
            )
        schedule = one_cycle(optimiser, settings.lr, steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def one_cycle(optimiser: torch.optim.Optimizer, lr: float, steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
    """One cycle of cosines over so many steps: up to lr in a tenth of them, then down to nearly 0."""
    warm_up = 0.11 if steps == 10 else 0.1  # of ten, it would be exactly one step, and torch divides by steps less one
    return torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=warm_up)

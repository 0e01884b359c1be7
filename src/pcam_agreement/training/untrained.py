"""Untrained networks that respond to patches: what a recipe's networks share before they have learnt anything."""

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from pcam_agreement.networks.classifier import Classifier, Options, build_classifier
from pcam_agreement.networks.logits import to_device

PATCHES = 256  # that batch-norm statistics are taken from
BATCH = 64  # of them at once, at most


def untrained_classifier(
    architecture: str,
    input_size: str,
    patches: np.ndarray,
    normalisation: str = "published",
    pooling: str = "published",
    options: Options = (),
) -> Classifier:
    """A classifier with random weights alone, from torch's global generator, in eval mode.

    patches: uint8 [n, 96, 96, 3], without labels. Batch norms take their statistics from them: with those of an
    initialisation, mean 0 and variance 1, logits of a deep network reach millions. Their weights are 1: some libraries
    start with 0 where a residual branch ends, which leaves the same few pixels of every patch to be seen.
    """
    classifier = build_classifier(
        architecture, "none", input_size, normalisation=normalisation, pooling=pooling, options=options
    ).eval()
    norms = [module for module in classifier.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        if norm.affine:
            torch.nn.init.ones_(norm.weight)
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    with torch.no_grad():
        # Of nearly the same size: all count alike, and of a single patch there may be no variance.
        for batch in np.array_split(patches, -(-len(patches) // BATCH)) if norms else ():
            classifier(to_device(batch, torch.device("cpu")))
    return classifier.eval()

"""The table of classifiers, as data: nothing here imports torch, so that parameters are checked at once."""

from __future__ import annotations

from dataclasses import dataclass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """A torchvision model: the size it was designed for, its default weights, and where its parts are."""

    size: int  # pixels a side
    weights: str  # a member of torchvision's weights enumeration
    head: str  # attribute path of the last linear layer
    spatial: str  # attribute path of the layer with the last map of places, for Grad-CAM
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    native_map: bool = True  # whether that map has more than one pixel at 96 pixels


NETWORKS = {
    "resnet34": Architecture(224, "ResNet34_Weights.IMAGENET1K_V1", "fc", "layer4"),
    "resnet50": Architecture(224, "ResNet50_Weights.IMAGENET1K_V2", "fc", "layer4"),
    "densenet121": Architecture(224, "DenseNet121_Weights.IMAGENET1K_V1", "classifier", "features"),
    "vit_b_16": Architecture(
        224, "ViT_B_16_Weights.IMAGENET1K_V1", "heads.head", "encoder.layers.encoder_layer_11.ln_1"
    ),
    "alexnet": Architecture(224, "AlexNet_Weights.IMAGENET1K_V1", "classifier.6", "features.11"),
    "vgg11": Architecture(224, "VGG11_Weights.IMAGENET1K_V1", "classifier.6", "features.19"),
    "efficientnet_b1": Architecture(240, "EfficientNet_B1_Weights.IMAGENET1K_V2", "classifier.1", "features"),
    # Inception's weights expect [-1, 1]; torchvision's own switch for that (transform_input) is turned off instead.
    "inception_v3": Architecture(
        299, "Inception_V3_Weights.IMAGENET1K_V1", "fc", "Mixed_7c", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), native_map=False
    ),
}

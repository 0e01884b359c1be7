"""Names of architectures, checked: torchvision's by their name, timm's as timm/<name>, and published networks (`hub`).

Nothing is imported before a name is checked: the two libraries take seconds each.
"""

from pcam_agreement.core.names import nearest
from pcam_agreement.networks.hub import is_published, read_config

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def of_timm(architecture: str) -> bool:
    """Whether timm builds it: timm/<name>, or a published network."""
    return architecture.startswith("timm/") or is_published(architecture)


def check_architecture(name: str) -> None:
    """Raise ValueError, with the nearest name, unless torchvision or timm has a classifier of this name."""
    if is_published(name):
        _check_timm(read_config(name)["architecture"])
        return
    if name.startswith("timm/"):
        _check_timm(name.removeprefix("timm/"))
        return
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(
            f"unknown architecture '{name}'; {nearest(name, known)} Any timm model is reachable as timm/<name>."
        )


def _check_timm(model: str) -> None:
    import timm

    if not timm.is_model(model):
        raise ValueError(f"timm has no model '{model}'; {nearest(model, timm.list_models())}")
    weights = timm.list_pretrained(model.split(".")[0] + ".*")
    if "." in model and model not in weights:
        raise ValueError(f"timm has no weights '{model}'; {nearest(model, weights)}")

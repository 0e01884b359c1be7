"""The table of attribution methods. A new method is a function, its settings in params.py, and one row here.

Every method is called as `method(score, patches, seeds, settings, batch)`:

- score(inputs [b, 3, 96, 96], rows [b]) -> [b], the explained score of inputs that were made from these rows;
- patches: float32 [n, 3, 96, 96] in [0, 1], on the network's device;
- seeds: one integer a patch, the same for every network, so that random draws are shared and batches do not matter;
- settings: the method's block of params.yaml;
- batch: how many inputs go through the network at once;

and returns a signed attribution [n, c, 96, 96] and diagnostics, each [n]. A method that hides superpixels also takes
`labels`, those of the patches where they are known already.
"""

from collections.abc import Callable

from torch import Tensor

from pcam_agreement.attribution.activation import grad_cam
from pcam_agreement.attribution.control import centre, random
from pcam_agreement.attribution.gradient import input_x_gradient, saliency, smoothgrad
from pcam_agreement.attribution.path import integrated_gradients
from pcam_agreement.attribution.perturbation import occlusion
from pcam_agreement.attribution.surrogate import kernel_shap, lime

METHODS: dict[str, Callable[..., tuple[Tensor, dict[str, Tensor]]]] = {
    "saliency": saliency,
    "input_x_gradient": input_x_gradient,
    "smoothgrad": smoothgrad,
    "integrated_gradients": integrated_gradients,
    "grad_cam": grad_cam,
    "occlusion": occlusion,
    "lime": lime,
    "kernel_shap": kernel_shap,
    "random": random,
    "centre": centre,
}

DRAWN = ("smoothgrad", "lime", "kernel_shap")  # whose maps depend on the seeds: how much shows the map of other draws

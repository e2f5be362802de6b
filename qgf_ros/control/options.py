"""How to guide, in the words of the command line and of the ROS parameters, which share these names."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line reads this module before it knows what it needs
    from qgf_ros.bundle.manifest import Manifest
    from qgf_ros.guidance.shaping import Guidance


@dataclass(frozen=True)
class GuidanceOptions:
    """How the critic guides, beside the weight.

    Attributes:
        estimator: Gradient estimator: qgf, qgf_jacobian, qgf_chain, noisy, bptt, or grad_step, which climbs the critic
            from the finished action with the guidance weight as step size.
        ascent_steps: Steps of grad_step.
        ascent_sign: Let grad_step follow the sign of each gradient component.
        max_gradient_norm: Shorten longer gradients to this norm [Q per normalised action].
        disagreement_scale: Multiply the weight by d / (d + spread of the ensemble's Q), d being this scale [Q].
        weight_schedule: Factor on the weight over the denoising steps: constant, linear or cosine (rising from 0), or
            one number per step, separated by commas.
        unguided_actions: Action components that are never guided, separated by commas.
    """

    estimator: str = "qgf"
    ascent_steps: int = 1
    ascent_sign: bool = False
    max_gradient_norm: float = math.inf
    disagreement_scale: float = math.inf
    weight_schedule: str = "constant"
    unguided_actions: str = ""

    def record(self) -> dict[str, str | int | float]:
        """Return the estimator and every option that is not at its default, for a report."""
        default = vars(DEFAULT_OPTIONS)
        return {name: value for name, value in vars(self).items() if name == "estimator" or value != default[name]}

    def check(self) -> Guidance:
        """Return the guidance as far as it can be known without a bundle: without the mask of unguided actions.

        Raises:
            GuidanceError: A word or a number is not allowed; the message says what is.
        """
        from qgf_ros.guidance.shaping import Guidance, parse_schedule

        return Guidance(
            self.estimator,
            self.ascent_steps,
            self.ascent_sign,
            self.max_gradient_norm,
            self.disagreement_scale,
            parse_schedule(self.weight_schedule),
        )

    def resolve(self, manifest: Manifest) -> Guidance:
        """Return the guidance that these words mean for a bundle.

        Raises:
            GuidanceError: A word or a number is not allowed; the message says what is.
        """
        from qgf_ros.guidance.shaping import mask_without

        unguided = [name.strip() for name in self.unguided_actions.split(",") if name.strip()]
        mask = mask_without(unguided, [field.name for field in manifest.action])
        guidance = replace(self.check(), mask=mask)
        guidance.check(manifest.denoising_steps, manifest.action_size)
        return guidance


#: QGF as it stands, every option off.
DEFAULT_OPTIONS = GuidanceOptions()

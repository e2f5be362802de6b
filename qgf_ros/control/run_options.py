"""How a run acts: every option once, as one row, in the words of the ROS parameters and of the command line.

From a row come the declaration of the parameter and its line in docs/parameters.md, the option of each sub-command, its
place in a trial's identity and in a report, and the control of the dashboard. Adding an option is adding a row, and
using it. Imported by the command line, so it loads nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from qgf_ros.bundle.own_graphs import check_estimator, estimator_meant
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.names import EVERY_METHOD, GRAD_STEP, MOST_ASCENT_STEPS, SCHEDULES

if TYPE_CHECKING:
    from qgf_ros.bundle.manifest import Manifest
    from qgf_ros.guidance.shaping import Guidance

#: The guidance weight that its bundle recommends for the critic in use.
RECOMMENDED = math.nan
#: The parameter beside `guidance_weight` that stands for it where that one has to be a number.
USE_RECOMMENDED = "use_recommended_weight"
#: The number of executed actions that its bundle is made for.
OWN_HORIZON = 0
#: Whether the robot waits for an inference, or goes on with the chunk under way meanwhile.
EXECUTIONS = ("synchronous", "asynchronous")
#: How a chunk goes over into the next: at once, by a linear cross-fade, by averaging every chunk that covers a time, or
#: by real-time chunking, where the next chunk is inferred so that it agrees (`guidance.prefix`).
SEAMS = ("switch", "linear", "ensemble", "rtc")
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Row:
    """What there is to say of an option.

    Attributes:
        text: What it is, in one sentence for people, without its unit.
        unit: In which it is counted; "" for words.
        lower, upper: Smallest and largest value of a number. A lower bound of a limit, whose default is infinity, does not
            belong to it.
        choices: The words it may be; any for none.
        allowed: What its values look like where neither bounds nor choices say so.
        plural: Name of the option that takes several of it.
        live: Whether it changes while the robot runs, from the next tick on.
        group: What it is about, "guidance" or "execution"; what is executed when depends on the latter.
        guiding: Whether it means nothing where nothing is guided, at weight 0.
        decisive: Whether it bears on which guidance weight is best.
        idle_unless: Another option and the value without which this one means nothing; ("", "") where it always does.
        typical: Between what people steer a number by hand, for a slider; None for no control.
        steered: Whether people choose a word by hand.
    """

    text: str
    unit: str = ""
    lower: float = -math.inf
    upper: float = math.inf
    choices: tuple[str, ...] = ()
    allowed: str = ""
    plural: str = ""
    live: bool = True
    group: str = "guidance"
    guiding: bool = False
    decisive: bool = True
    idle_unless: tuple[str, str] = ("", "")
    typical: tuple[float, float] | None = None
    steered: bool = False

    def sentence(self) -> str:
        """Return text and unit, as a parameter's description."""
        return f"{self.text} [{self.unit}]." if self.unit else f"{self.text}."

    def check(self, name: str, value: Any, kind: type[bool | int | float | str]) -> None:
        """Raise GuidanceError unless a value is one that this option may have in some bundle."""
        fitting = (int, float) if kind is float else (kind,)
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, fitting):
            raise GuidanceError(f"{name} {value!r} was given; it must be {_KINDS[kind]}")
        if self.choices and value not in self.choices:
            raise GuidanceError(f"{name} {value!r} was given; it must be one of {', '.join(self.choices)}")
        if isinstance(value, str):
            return
        if self.limit:
            if not value > self.lower:
                raise GuidanceError(f"{name} {value} was given; it must be above {self.lower:g}, infinity for no limit")
        elif not self.lower <= value <= self.upper:
            bounds = f"at most {self.upper:g}" if value > self.upper else f"at least {self.lower:g}"
            finite = "" if math.isfinite(value) else "finite and "
            raise GuidanceError(f"{name} {value} was given; it must be {finite}{bounds}")

    @property
    def limit(self) -> bool:
        """Whether it is a limit, which infinity switches off."""
        return self.lower == 0.0 and self.upper == math.inf


_KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}


def _option(default: Any, text: str, **row: Any) -> Any:
    return dataclasses.field(default=default, metadata={"row": Row(text, **row)})


@dataclass(frozen=True)
class RunOptions:
    """Everything that decides how a run acts; a change takes effect at the next tick. What each means, its row says.

    A guidance weight of `RECOMMENDED`, an empty critic and an execution horizon of `OWN_HORIZON` stand for what `resolve`
    finds in a bundle; with the first come the settings that it was found with, in place of defaults.
    """

    guidance_weight: float = _option(
        RECOMMENDED,
        "Guidance weight 1/beta; 0 is plain behaviour cloning",
        unit="1",
        lower=0.0,
        upper=1000.0,
        plural="guidance_weights",
        decisive=False,
        typical=(0.0, 0.3),
    )
    critic: str = _option(
        "", "Name of the critic that guides; empty for the bundle's first, or that of the task", decisive=False
    )
    num_samples: int = _option(
        1,
        "Candidate chunks of which the one of highest Q is kept",
        unit="1",
        lower=1,
        upper=1024,
        plural="num_samples",
        typical=(1, 32),
    )
    execution_horizon: int = _option(
        OWN_HORIZON,
        "Actions executed of each chunk; 0 for the bundle's own number",
        unit="control steps",
        lower=0,
        upper=10_000,
        allowed="0, or an integer up to the bundle's horizon",
        plural="execution_horizons",
        group="execution",
        typical=(1, math.inf),
    )
    seed: int = _option(
        0,
        "Seed of the noise, and in simulation of the first episode; a parameter that is set, even to the same value, restarts "
        "the noise",
        unit="1",
        lower=0,
        upper=LARGEST_SEED,
        decisive=False,
    )
    estimator: str = _option(
        "qgf",
        "How the guidance gradient is estimated; grad_step climbs the critic from the finished action, with the guidance "
        "weight as step size; robust and classifier_free need a bundle with their graphs, and qgf means the latter there",
        choices=EVERY_METHOD,
        plural="estimators",
        steered=True,
        guiding=True,
    )
    ascent_steps: int = _option(
        1,
        "Steps of grad_step",
        unit="1",
        lower=1,
        upper=MOST_ASCENT_STEPS,
        guiding=True,
        idle_unless=("estimator", GRAD_STEP),
    )
    ascent_sign: bool = _option(
        False,
        "Whether grad_step follows the sign of each gradient component",
        guiding=True,
        idle_unless=("estimator", GRAD_STEP),
    )
    max_gradient_norm: float = _option(
        math.inf,
        "Longer gradients are shortened to this norm",
        unit="Q per normalised action",
        lower=0.0,
        guiding=True,
    )
    disagreement_scale: float = _option(
        math.inf,
        "The weight is multiplied by d / (d + spread of the ensemble's Q), d being this scale",
        unit="Q",
        lower=0.0,
        plural="disagreement_scales",
        guiding=True,
    )
    weight_schedule: str = _option(
        "constant",
        "Factor on guidance_weight over the denoising steps",
        unit="1",
        allowed=f"{', '.join(SCHEDULES)}, or one number per denoising step, separated by commas",
        plural="weight_schedules",
        guiding=True,
    )
    unguided_actions: str = _option(
        "", "Action components that are never guided", allowed="Names, separated by commas", guiding=True
    )
    max_guidance_deviation: float = _option(
        math.inf,
        "Largest distance of a guided action from the unguided one of the same noise, per component",
        unit="normalised action units",
        lower=0.0,
        guiding=True,
    )
    guidance_weight_slew: float = _option(
        math.inf, "Fastest change of the guidance weight in use", unit="1/s", lower=0.0, decisive=False
    )
    execution: str = _option(
        "synchronous",
        "Whether the robot waits for each inference, or goes on with the chunk under way meanwhile",
        choices=EXECUTIONS,
        group="execution",
        allowed="asynchronous needs an execution_horizon below the bundle's horizon",
    )
    seam: str = _option("switch", "How a chunk goes over into the next", choices=SEAMS, group="execution")
    blend_steps: int = _option(
        3,
        "Length of the seam linear",
        unit="control steps",
        lower=1,
        upper=1000,
        group="execution",
        idle_unless=("seam", "linear"),
    )

    @property
    def asynchronous(self) -> bool:
        """Whether inference runs beside execution."""
        return self.execution == "asynchronous"

    @property
    def recommended(self) -> bool:
        """Whether the guidance weight is the recommended one, which `resolve` finds."""
        return isinstance(self.guidance_weight, float) and math.isnan(self.guidance_weight)

    def check(self) -> None:
        """Check what can be said without a bundle.

        Raises:
            GuidanceError: A value is of the wrong type or not allowed; the message names it and what is.
        """
        for name, row in ROWS.items():
            if not (name == "guidance_weight" and self.recommended):
                row.check(name, getattr(self, name), KINDS[name])
        self._guidance()

    def resolve(self, manifest: Manifest) -> RunOptions:
        """Return the options as numbers and names for a bundle, checked against it.

        Args:
            manifest: Of the bundle.

        Raises:
            GuidanceError: The bundle cannot run them, or recommends a weight for others.
        """
        self.check()
        critic = self.critic or next(iter(manifest.critics), "")
        if critic not in manifest.critics:
            raise GuidanceError(
                f"critic {critic!r} was given; bundle {manifest.name} has {', '.join(manifest.critics)}"
            )
        if self.recommended:
            weight, brought = manifest.critics[critic].recommended_weight, self._recommended_settings(manifest)
            return replace(self, guidance_weight=weight, critic=critic, **brought).resolve(manifest)
        horizon = self.execution_horizon or manifest.execution_horizon
        if horizon > manifest.horizon:
            raise GuidanceError(
                f"execution_horizon {horizon} was given; it must be 1 to {manifest.horizon}, the bundle's horizon"
            )
        if self.asynchronous and horizon >= manifest.horizon:
            raise GuidanceError(
                f"execution_horizon {horizon} was given with asynchronous execution; it must be below {manifest.horizon}, "
                "the bundle's horizon, so that actions are left while the next chunk is inferred"
            )
        check_estimator(manifest, self.estimator)
        own = {name: _meant(name, getattr(self, name), manifest) for name in ("estimator", "execution_horizon")}
        resolved = replace(self, guidance_weight=float(self.guidance_weight), critic=critic, **own)
        resolved.guidance(manifest)
        return resolved

    def guidance(self, manifest: Manifest) -> Guidance:
        """Return the estimator and what is around it, as these words mean them for a bundle.

        Raises:
            GuidanceError: A word or a number is not allowed; the message says what is.
        """
        from qgf_ros.guidance.shaping import mask_without

        unguided = [name.strip() for name in self.unguided_actions.split(",") if name.strip()]
        guidance = replace(self._guidance(), mask=mask_without(unguided, [field.name for field in manifest.action]))
        guidance.check(manifest.denoising_steps, manifest.action_size)
        return guidance

    def _guidance(self) -> Guidance:
        """Return the guidance as far as it can be known without a bundle: without the mask of unguided actions."""
        from qgf_ros.guidance.shaping import Guidance, parse_schedule

        return Guidance(
            self.estimator,
            self.ascent_steps,
            self.ascent_sign,
            self.max_gradient_norm,
            self.disagreement_scale,
            parse_schedule(self.weight_schedule),
        )

    def _recommended_settings(self, manifest: Manifest) -> dict[str, Any]:
        """Return the settings that a recommended weight was found with, which take the place of defaults.

        Raises:
            GuidanceError: Another value than both was given for one of them.
        """
        found = without_idle(manifest.critics[self.critic or next(iter(manifest.critics))].recommended_settings)
        other = {
            name: value
            for name, value in found.items()
            if _meant(name, getattr(self, name, None), manifest)
            not in [_meant(name, one, manifest) for one in (value, DEFAULTS.get(name, value))]
        }
        if other:
            raise GuidanceError(
                f"the recommended guidance_weight was found with {words(other)}; set that too, or give a weight"
            )
        return found

    def untested(self, manifest: Manifest) -> str:
        """Return a sentence if the recommended weight is used with other settings than it was found with, "" if not.

        What it was found with and is no default is not among them: it comes with the weight.

        Args:
            manifest: Of the bundle, which can run these options.
        """
        card = manifest.critics[self.critic or next(iter(manifest.critics))]
        if not self.recommended or not card.recommended_weight:
            return ""
        found = {**{name: DEFAULTS[name] for name in DECISIVE}, **card.recommended_settings}
        in_use = without_idle({**vars(self), **self._recommended_settings(manifest)})
        differ = [
            name
            for name, value in found.items()
            if name in in_use
            and _meant(name, in_use[name], manifest) != _meant(name, value, manifest)
            and in_use[name] != card.recommended_limits.get(name)  # which it never met when it was tested
        ]
        if not differ:
            return ""
        used, known = ({name: values[name] for name in differ} for values in (in_use, found))
        return (
            f"the recommended guidance_weight is untested with {words(used)}; it was found with {words(known)}: tune again, "
            "or set that"
        )

    def without_guidance(self) -> RunOptions:
        """Return the options of plain behaviour cloning beside these: weight 0, and nothing that only guides."""
        idle = {name: DEFAULTS[name] for name, row in ROWS.items() if row.guiding}
        return replace(self, **{**idle, "guidance_weight": 0.0})

    def identity(self) -> dict[str, Any]:
        """Return what decides the outcome of an episode, but for its seed; an option at its default is not in it."""
        return {"guidance_weight": self.guidance_weight, "critic": self.critic, **self.changed()}

    def changed(self) -> dict[str, Any]:
        """Return what is not at its default and means something, but for weight, critic and seed."""
        return {
            name: value
            for name, value in without_idle(vars(self)).items()
            if name not in _OF_THE_EPISODE and value != DEFAULTS[name]
        }

    def record(self) -> dict[str, Any]:
        """Return the columns of a report: every option that means something, but for weight, critic and seed.

        A limit that is off and a word that is empty mean nothing.
        """
        return {
            name: value
            for name, value in without_idle(vars(self)).items()
            if name not in _OF_THE_EPISODE and value not in ("", math.inf)
        }

    def figures(self) -> dict[str, str | int | float]:
        """Return what telemetry and diagnostics say of resolved options."""
        return {name: getattr(self, name) for name in _FIGURES}

    def __str__(self) -> str:
        """Say the weight and what is not at its default, for people."""
        weight = "recommended weight" if self.recommended else f"weight {self.guidance_weight:g}"
        return ", ".join([weight, *(f"{name} {value}" for name, value in self.changed().items())])


#: Plain behaviour cloning, which everything else is compared with.
BC = RunOptions(guidance_weight=0.0)
#: The row of each option by name, in the order of their declaration.
ROWS: dict[str, Row] = {field.name: field.metadata["row"] for field in fields(RunOptions)}
DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(RunOptions)}
#: The type of each option's values.
KINDS: dict[str, type[bool | int | float | str]] = {name: type(default) for name, default in DEFAULTS.items()}
#: On these depends which weight is best.
DECISIVE = tuple(name for name, row in ROWS.items() if row.decisive)
#: What a recorded run can be answered with in its place: not what other inferences than the recorded ones would follow from.
REPLAYABLE = tuple(n for n, row in ROWS.items() if row.group == "guidance" and n != "guidance_weight_slew")
_OF_THE_EPISODE = ("guidance_weight", "critic", "seed")
_FIGURES = (
    *("guidance_weight", "critic", "num_samples", "execution_horizon", "seed"),
    *("estimator", "execution", "seam", "blend_steps"),
)


def _meant(name: str, value: Any, manifest: Manifest) -> Any:
    """Return the value that a bundle is run with where an option has this one."""
    if name == "estimator":
        return estimator_meant(manifest, value)
    return manifest.execution_horizon if name == "execution_horizon" and value == OWN_HORIZON else value


def weight_parameters(weight: float) -> dict[str, Any]:
    """Return the ROS parameters that mean a guidance weight, `RECOMMENDED` included."""
    recommended = math.isnan(weight)
    return {"guidance_weight": 0.0 if recommended else float(weight), USE_RECOMMENDED: recommended}


def without_idle(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without those that mean nothing beside the others.

    Args:
        settings: Value by name of an option; whatever is not there is at its default.
    """

    def idle(name: str) -> bool:
        other, value = ROWS[name].idle_unless if name in ROWS else ("", "")
        return other != "" and settings.get(other) != value

    return {name: value for name, value in settings.items() if not idle(name)}


def words(settings: Mapping[str, Any]) -> str:
    """Return settings for people, such as "num_samples 4, estimator noisy"."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())

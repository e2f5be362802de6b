"""What the words of the command line and of the parameters mean for a bundle."""

from __future__ import annotations

import math

import pytest

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.options import DEFAULT_OPTIONS, GuidanceOptions
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.shaping import QGF, Guidance

MANIFEST = Manifest(
    name="two",
    observation=(
        ObservationField(
            name="state",
            topic="state",
            message_type="std_msgs/msg/Float64MultiArray",
            extraction="data",
            size=3,
            unit="1",
        ),
    ),
    action=tuple(ActionField(name=name, unit="m", scale=0.1, lower=-0.1, upper=0.1) for name in ("dx", "dgripper")),
    horizon=4,
    execution_horizon=4,
    control_rate=20.0,
    denoising_steps=3,
    critics={},
)


def test_the_defaults_are_algorithm_1_as_it_stands() -> None:
    assert DEFAULT_OPTIONS.resolve(MANIFEST) == QGF


def test_every_word_reaches_the_guidance() -> None:
    options = GuidanceOptions("grad_step", 3, True, 0.5, 2.0, "constant", "dgripper")
    assert options.resolve(MANIFEST) == Guidance("grad_step", 3, True, 0.5, 2.0, "constant", (1.0, 0.0))
    assert GuidanceOptions(weight_schedule="0,0.5,1").resolve(MANIFEST).schedule == (0.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (GuidanceOptions("best"), "estimator 'best' was given"),
        (GuidanceOptions(weight_schedule="0,1"), "of 2 factors was given; expected 3"),
        (GuidanceOptions(unguided_actions="dx, dw"), "'dw' was given; the bundle has dx, dgripper"),
    ],
)
def test_a_word_that_the_bundle_cannot_mean_is_refused(options: GuidanceOptions, message: str) -> None:
    with pytest.raises(GuidanceError, match=message):
        options.resolve(MANIFEST)


def test_a_report_names_the_estimator_and_what_differs_from_the_defaults() -> None:
    assert DEFAULT_OPTIONS.record() == {"estimator": "qgf"}
    options = GuidanceOptions("bptt", max_gradient_norm=2.0, disagreement_scale=math.inf)
    assert options.record() == {"estimator": "bptt", "max_gradient_norm": 2.0}

"""What parameter values mean, and which are refused with which reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from rclpy.parameter import Parameter

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.file_records import FileRecord
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import GuidanceError, SafetyError
from qgf_ros.guidance.shaping import Guidance
from qgf_ros.loop.realtime import RealTime
from qgf_ros.loop.supervision import RECOMMENDED_SUPERVISION, Supervision
from qgf_ros.nodes import parameters
from qgf_ros.nodes.declarations import FIXED, declarations, weight_descriptor

DEFAULTS: dict[str, Any] = {
    "bundle": "models/fake",
    "contract": "",
    **vars(RunOptions()),
    "guidance_weight": 0.0,
    "use_recommended_weight": True,
    "enable_motion": False,
    "dry_run": False,
    "limits": "",
    "accept_unlimited": "",
    "trigger": "timer",
    "observation_reliability": "best_effort",
    "inference_deadline": "recommended",
    "deadline_misses": 3,
    "watchdog_timeout": "recommended",
    "on_fault": "hold",
    "plausible_range": 5.0,
    "start_retry_distance": 0.2,
    "heartbeat_rate": 10.0,
    "providers": ["CPUExecutionProvider"],
    "precision": "fp32",
    "threads": 1,
    "sched_fifo": 0,
    "cpu_affinity": "",
    "memory_lock": False,
    "executor": "single_threaded",
    "autostart": False,
    "exit_on_failed_start": False,
}


def given(weight: float) -> dict[str, Any]:
    """Return the two parameters of a weight that is a number."""
    return {"guidance_weight": weight, "use_recommended_weight": False}


def changes(**values: Any) -> list[Parameter]:
    return [Parameter(name, value=value) for name, value in values.items()]


def resolved(values: Mapping[str, Any], manifest: Manifest) -> RunOptions:
    return parameters.options_from(values).resolve(manifest)


def test_the_values_of_these_tests_are_the_declared_ones() -> None:
    declared = {name: default for name, (default, _) in declarations().items()}
    assert {**DEFAULTS, "bundle": "", "providers": declared["providers"]} == declared


def test_defaults_are_the_bundle_s_own_recommendations(manifest: Manifest) -> None:
    assert resolved(DEFAULTS, manifest) == RunOptions(0.5, "near", 1, 2, 0)


def test_a_recommended_weight_is_refused_with_other_settings_than_it_was_found_with(manifest: Manifest) -> None:
    card = manifest.critics["near"].model_copy(
        update={"recommended_settings": {"num_samples": 4, "estimator": "noisy"}}
    )
    tuned = manifest.model_copy(update={"critics": {**manifest.critics, "near": card}})
    with pytest.raises(GuidanceError, match="weight was found with num_samples 4; set that too"):
        resolved({**DEFAULTS, "num_samples": 2}, tuned)
    for given_too in ({}, {"num_samples": 4, "estimator": "noisy"}):
        settings = resolved({**DEFAULTS, **given_too}, tuned)
        assert (settings.guidance_weight, settings.num_samples, settings.estimator) == (0.5, 4, "noisy")
    assert resolved({**DEFAULTS, **given(0.3)}, tuned).guidance_weight == 0.3


def test_settings_that_mean_nothing_do_not_come_with_the_recommended_weight(manifest: Manifest) -> None:
    def tuned(**settings: Any) -> Manifest:
        card = manifest.critics["near"].model_copy(update={"recommended_settings": settings})
        return manifest.model_copy(update={"critics": {**manifest.critics, "near": card}})

    idle = {"blend_steps": 5, "ascent_steps": 3, "ascent_sign": True}
    assert resolved(DEFAULTS, tuned(**idle)) == resolved(DEFAULTS, manifest)
    assert resolved(DEFAULTS, tuned(**idle, seam="linear")).blend_steps == 5
    with pytest.raises(GuidanceError, match="found with blend_steps 5; set that too"):
        resolved({**DEFAULTS, "blend_steps": 4}, tuned(**idle, seam="linear"))
    climbing = resolved({**DEFAULTS, "estimator": "grad_step"}, tuned(**idle, estimator="grad_step"))
    assert (climbing.ascent_steps, climbing.ascent_sign) == (3, True)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"estimator": "noisy"}, "untested with estimator noisy; it was found with estimator qgf"),
        ({"num_samples": 16}, "untested with num_samples 16; it was found with num_samples 1"),
        (
            {"weight_schedule": "cosine"},
            "untested with weight_schedule cosine; it was found with weight_schedule constant",
        ),
        (
            {"execution_horizon": 1},
            "untested with execution_horizon 1; it was found with execution_horizon 0",
        ),
        (
            {"max_guidance_deviation": 0.3},
            "untested with max_guidance_deviation 0.3; it was found with max_guidance_deviation inf",
        ),
        ({"execution": "asynchronous"}, "untested with execution asynchronous; it was found with execution synchron"),
        (
            {"seam": "linear", "blend_steps": 5},
            "untested with seam linear, blend_steps 5; it was found with seam switch",
        ),
        (
            {"unguided_actions": "dx", "max_gradient_norm": 2.0},
            "untested with max_gradient_norm 2.0, unguided_actions dx",
        ),
    ],
)
def test_a_recommended_weight_with_settings_that_were_not_tried_is_untested(
    manifest: Manifest, changed: dict[str, Any], sentence: str
) -> None:
    assert sentence in parameters.options_from({**DEFAULTS, **changed}).untested(manifest)
    assert parameters.options_from({**DEFAULTS, **changed, **given(0.5)}).untested(manifest) == ""


@pytest.mark.parametrize(
    "changed",
    [{}, {"execution_horizon": 2}, {"seed": 3}, {"guidance_weight_slew": 1.0}, {"ascent_steps": 3, "blend_steps": 5}],
)
def test_a_recommended_weight_with_what_it_was_found_with_is_tested(
    manifest: Manifest, changed: dict[str, Any]
) -> None:
    assert parameters.options_from({**DEFAULTS, **changed}).untested(manifest) == ""


def test_the_recommended_weight_follows_the_critic_and_a_given_one_stays(manifest: Manifest) -> None:
    assert resolved({**DEFAULTS, "critic": "far"}, manifest).guidance_weight == 2.0
    values = {**DEFAULTS, "critic": "far", **given(0.25)}
    assert resolved(values, manifest).guidance_weight == 0.25


def test_a_whole_number_is_a_weight(manifest: Manifest) -> None:
    settings = resolved({**DEFAULTS, **given(0)}, manifest)
    assert settings.guidance_weight == 0.0
    assert isinstance(settings.guidance_weight, float)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("guidance_weight", -1, "guidance_weight -1 was given; it must be at least 0"),
        ("guidance_weight", float("nan"), "guidance_weight nan was given"),
        ("guidance_weight", True, "guidance_weight True was given"),
        ("guidance_weight", "", "guidance_weight '' was given"),
        ("guidance_weight", "recommended", "guidance_weight 'recommended' was given; it must be a number"),
        ("execution_horizon", -1, "execution_horizon -1 was given; it must be at least 0"),
        ("execution_horizon", 1.5, "execution_horizon 1.5 was given"),
        ("execution_horizon", "all", "execution_horizon 'all' was given"),
        ("trigger", "never", "trigger 'never' was given; it must be timer or observation"),
        ("observation_reliability", "maybe", "it must be best_effort or reliable"),
        (
            "inference_deadline",
            0.0,
            "inference_deadline 0.0 was given; it must be a number of seconds of at least 0.001, .inf",
        ),
        ("inference_deadline", "soon", "inference_deadline 'soon' was given"),
        ("watchdog_timeout", math.nan, "watchdog_timeout nan was given"),
        ("inference_deadline", 0.0009, "it must be a number of seconds of at least 0.001"),
        (
            "watchdog_timeout",
            1e-9,
            "watchdog_timeout 1e-09 was given; it must be a number of seconds of at least 0.001",
        ),
        ("watchdog_timeout", True, "watchdog_timeout True was given"),
        ("on_fault", "pray", "on_fault 'pray' was given; it must be hold or decelerate or stop_publishing"),
    ],
)
def test_a_bad_value_is_refused_with_and_without_a_bundle(
    manifest: Manifest, name: str, value: Any, reason: str
) -> None:
    with pytest.raises(GuidanceError) as without:
        parameters.review(changes(**{name: value}), DEFAULTS, None)
    assert reason in str(without.value)
    with pytest.raises(GuidanceError):
        parameters.review(changes(**{name: value}), DEFAULTS, manifest)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("guidance_weight", float("inf"), "must be finite"),
        ("critic", "middle", "bundle fake has near, far"),
        ("execution_horizon", 5, "must be 1 to 4"),
        ("num_samples", 0, "num_samples 0 was given"),
        ("seed", -1, "seed -1 was given"),
    ],
)
def test_a_value_the_bundle_cannot_run_is_refused(manifest: Manifest, name: str, value: Any, reason: str) -> None:
    with pytest.raises(GuidanceError, match=reason):
        parameters.review(changes(**{name: value}), DEFAULTS, manifest)


def test_several_changes_are_judged_together(manifest: Manifest) -> None:
    settings = parameters.review(changes(critic="far", num_samples=4, **given(0.1)), DEFAULTS, manifest)
    assert settings == RunOptions(0.1, "far", 4, 2, 0)
    with pytest.raises(GuidanceError):
        parameters.review(changes(critic="far", num_samples=0), DEFAULTS, manifest)


@pytest.mark.parametrize("name", FIXED)
def test_what_configure_reads_is_fixed_until_cleanup(manifest: Manifest, name: str) -> None:
    other = {
        "bundle": "x",
        "accept_unlimited": "x",
        "trigger": "observation",
        "observation_reliability": "reliable",
        "providers": ["X"],
        "on_fault": "decelerate",
        "precision": "auto",
    }
    change = changes(**{name: other.get(name, 2)})
    with pytest.raises(GuidanceError, match=f"{name} is fixed while the node is configured; run cleanup"):
        parameters.review(change, DEFAULTS, manifest)
    assert parameters.review(change, DEFAULTS, None) is None
    assert parameters.review(changes(**{name: DEFAULTS[name]}), DEFAULTS, manifest) is None


def absolute(manifest_factory: Callable[..., Manifest]) -> Manifest:
    """Return a contract of one action that could jump to anywhere."""
    return manifest_factory(action=(ActionField(name="elbow", unit="rad", scale=1.0, lower=-1, upper=1, hold=None),))


def test_motion_is_refused_live_where_limits_are_absent(manifest_factory: Callable[..., Manifest]) -> None:
    manifest, motion = absolute(manifest_factory), changes(enable_motion=True)
    with pytest.raises(
        SafetyError, match=r"not limited enough to move a robot: elbow \(no measured, max_rate, max_start_"
    ):
        parameters.review(motion, DEFAULTS, manifest)
    assert parameters.review(motion, {**DEFAULTS, "accept_unlimited": "elbow"}, manifest) is None
    assert parameters.review(motion, {**DEFAULTS, "accept_unlimited": ["elbow"]}, manifest) is None
    assert parameters.review(motion, {**DEFAULTS, "dry_run": True}, manifest) is None
    assert parameters.review(changes(enable_motion=False), DEFAULTS, manifest) is None
    assert parameters.review(motion, DEFAULTS, None) is None  # configure will look


@pytest.mark.parametrize(
    ("value", "names"), [("", ()), ("a, b,", ("a", "b")), (["a", "b"], ("a", "b")), (("a",), ("a",)), ([], ())]
)
def test_names_are_a_list_or_a_text_with_commas(value: Any, names: tuple[str, ...]) -> None:
    parameters.check_types({"accept_unlimited": value})
    assert parameters.names_from(value) == names


@pytest.mark.parametrize("value", [True, 3, 0.5, [1], [b"a"]])
def test_what_is_no_name_is_refused(value: Any) -> None:
    with pytest.raises(GuidanceError, match="it must be names of action components, as a list or separated by commas"):
        parameters.check_types({"accept_unlimited": value})


def test_a_parameter_of_ours_cannot_be_deleted_and_others_are_not_our_business(manifest: Manifest) -> None:
    with pytest.raises(GuidanceError, match="guidance_weight cannot be deleted"):
        parameters.review([Parameter("guidance_weight", Parameter.Type.NOT_SET)], DEFAULTS, manifest)
    assert parameters.review(changes(use_sim_time=True), DEFAULTS, manifest) is None


def test_a_bundle_without_critics_is_refused(
    manifest_factory: Callable[..., Manifest],
) -> None:
    with pytest.raises(GuidanceError, match="critic"):
        resolved(DEFAULTS, manifest_factory(critics={}))


def test_startup_needs_a_bundle() -> None:
    with pytest.raises(GuidanceError, match="parameter bundle is empty; give the path or name"):
        parameters.startup_from({**DEFAULTS, "bundle": ""})
    startup = parameters.startup_from({**DEFAULTS, "observation_reliability": "reliable"})
    assert startup == parameters.Startup(Path("models/fake"), None, "timer", True, ("CPUExecutionProvider",), 1)


def test_ticking_by_observation_needs_stamps_of_what_is_live() -> None:
    field = ObservationField(
        name="v", topic="vector", message_type="std_msgs/msg/Float64MultiArray", extraction="data", size=1, unit="1"
    )
    parameters.check_trigger("timer", [field])
    with pytest.raises(GuidanceError, match="vector has no header; set trigger to timer"):
        parameters.check_trigger("observation", [field])
    goal = field.model_copy(update={"max_age": None})
    parameters.check_trigger("observation", [goal])


def test_guidance_options_become_the_settings_guidance(manifest: Manifest) -> None:
    first = manifest.action[0].name
    values = {
        **DEFAULTS,
        "estimator": "noisy",
        "max_gradient_norm": 2.0,
        "weight_schedule": ",".join(["0.5"] * manifest.denoising_steps),
        "unguided_actions": f" {first} ",
    }
    mask = (0.0, *(1.0 for _ in manifest.action[1:]))
    expected = Guidance("noisy", max_gradient_norm=2.0, schedule=(0.5,) * manifest.denoising_steps, mask=mask)
    assert resolved(values, manifest).guidance(manifest) == expected


@pytest.mark.parametrize("configured", [True, False])
def test_an_unknown_estimator_is_refused_with_those_there_are(manifest: Manifest, configured: bool) -> None:
    with pytest.raises(
        GuidanceError, match="'best' was given; it must be one of qgf, qgf_jacobian, qgf_chain, noisy, bptt"
    ):
        parameters.review(changes(estimator="best"), DEFAULTS, manifest if configured else None)


def test_an_estimator_whose_graph_the_bundle_lacks_is_refused_and_one_that_it_has_is_taken(manifest: Manifest) -> None:
    with pytest.raises(GuidanceError, match="robust was given; bundle fake has no q_robust_grad.onnx for it"):
        parameters.review(changes(estimator="robust"), DEFAULTS, manifest)

    def having(file: str) -> Manifest:
        record = FileRecord(sha256="0" * 64, size=1)
        return manifest.model_copy(update={"files": {f"critics/{name}/{file}": record for name in manifest.critics}})

    robust, fields = having("q_robust_grad.onnx"), having("velocity.onnx")
    assert parameters.review(changes(estimator="robust"), DEFAULTS, robust).estimator == "robust"
    assert parameters.review(changes(**given(3.0)), DEFAULTS, fields).estimator == "classifier_free"
    with pytest.raises(GuidanceError, match="noisy was given; bundle fake is guided by the difference"):
        parameters.review(changes(estimator="noisy"), DEFAULTS, fields)


@pytest.mark.parametrize(("file", "largest"), [("q_robust_grad.onnx", 8.0), ("velocity.onnx", 15.0)])
def test_the_range_of_the_weight_is_that_of_what_it_scales(manifest: Manifest, file: str, largest: float) -> None:
    record = FileRecord(sha256="0" * 64, size=1)
    own = {f"critics/{name}/{file}": record for name in manifest.critics}
    descriptor = weight_descriptor(manifest.model_copy(update={"files": own}), 0.0)
    assert descriptor.floating_point_range[0].to_value == largest


def test_an_unguided_action_that_the_bundle_lacks_is_refused(manifest: Manifest) -> None:
    with pytest.raises(GuidanceError, match="'elbow' was given; the bundle has"):
        parameters.review(changes(unguided_actions="elbow"), DEFAULTS, manifest)


def test_what_is_watched_follows_the_bundle_unless_it_is_said() -> None:
    assert parameters.startup_from(DEFAULTS).supervision == RECOMMENDED_SUPERVISION
    values = {**DEFAULTS, "inference_deadline": 1, "deadline_misses": 5, "watchdog_timeout": math.inf}
    supervision = parameters.startup_from({**values, "on_fault": "decelerate"}).supervision
    assert supervision == Supervision(1.0, 5, math.inf, "decelerate", plausible_range=5.0)


def test_how_far_is_plausible_and_when_a_start_is_tried_again_is_said() -> None:
    values = {**DEFAULTS, "plausible_range": math.inf, "start_retry_distance": 0.5}
    supervision = parameters.startup_from(values).supervision
    assert (supervision.plausible_range, supervision.start_retry_distance) == (math.inf, 0.5)
    for wrong in (0.5, -1.0, math.nan):
        with pytest.raises(GuidanceError, match=f"plausible_range {wrong} was given; it must be at least 1"):
            parameters.startup_from({**DEFAULTS, "plausible_range": wrong})


def test_the_parameters_of_the_node_say_what_the_process_is_to_get() -> None:
    values = {name: default for name, (default, _) in declarations().items()}
    values = {**values, "bundle": "cube-single"}
    assert parameters.startup_from(values).real_time == RealTime()
    asked = {"sched_fifo": 40, "cpu_affinity": "2-3", "memory_lock": True}
    assert parameters.startup_from({**values, **asked}).real_time == RealTime(40, frozenset({2, 3}), True)
    with pytest.raises(GuidanceError, match="cpu_affinity 'all' was given"):
        parameters.startup_from({**values, "cpu_affinity": "all"})

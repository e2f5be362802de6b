"""Every option of a run is one row, and the words of command line and parameters mean one thing for a bundle."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import json
import math
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.control import run_options
from qgf_ros.control.run_options import (
    BC,
    DEFAULTS,
    KINDS,
    OWN_HORIZON,
    RECOMMENDED,
    REPLAYABLE,
    ROWS,
    RunOptions,
    weight_parameters,
)
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
    execution_horizon=3,
    control_rate=20.0,
    denoising_steps=3,
    critics={
        name: CriticCard(task=name, discount=0.99, ensemble_size=2, recommended_weight=weight)
        for name, weight in (("near", 0.5), ("far", 2.0))
    },
)
#: Options at none of which is the default, and which mean something beside each other.
CHANGED = RunOptions(
    guidance_weight=0.25,
    critic="far",
    num_samples=4,
    execution_horizon=2,
    seed=7,
    estimator="grad_step",
    ascent_steps=3,
    ascent_sign=True,
    max_gradient_norm=0.5,
    disagreement_scale=2.0,
    unguided_actions="dgripper",
    max_guidance_deviation=0.3,
    guidance_weight_slew=1.5,
    execution="asynchronous",
    seam="linear",
    blend_steps=5,
)
SUB_COMMANDS = ("demo", "evaluate", "render", "tune", "replay")


def tuned(**settings: Any) -> Manifest:
    """Return the bundle with other settings that the weight of its first critic was found with."""
    card = MANIFEST.critics["near"].model_copy(update={"recommended_settings": settings})
    return MANIFEST.model_copy(update={"critics": {**MANIFEST.critics, "near": card}})


# What the words mean for a bundle.


def test_the_defaults_are_algorithm_1_as_it_stands() -> None:
    assert RunOptions().guidance(MANIFEST) == QGF


def test_every_word_reaches_the_guidance() -> None:
    expected = Guidance("grad_step", 3, True, 0.5, 2.0, "constant", (1.0, 0.0))
    assert CHANGED.guidance(MANIFEST) == CHANGED.resolve(MANIFEST).guidance(MANIFEST) == expected
    assert RunOptions(weight_schedule="0,0.5,1").guidance(MANIFEST).schedule == (0.0, 0.5, 1.0)


def test_the_defaults_are_the_bundle_s_own() -> None:
    assert RunOptions().resolve(MANIFEST) == RunOptions(0.5, "near", execution_horizon=3)
    assert RunOptions(critic="far").resolve(MANIFEST).guidance_weight == 2.0
    assert RunOptions(0).resolve(MANIFEST).guidance_weight == 0.0
    assert isinstance(RunOptions(0).resolve(MANIFEST).guidance_weight, float)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            RunOptions(estimator="best"),
            "estimator 'best' was given; it must be one of qgf, qgf_jacobian, qgf_chain, noisy",
        ),
        (RunOptions(weight_schedule="0,1"), "of 2 factors was given; expected 3"),
        (RunOptions(unguided_actions="dx, dw"), "'dw' was given; the bundle has dx, dgripper"),
        (RunOptions(critic="middle"), "critic 'middle' was given; bundle two has near, far"),
        (RunOptions(execution_horizon=5), "execution_horizon 5 was given; it must be 1 to 4, the bundle's horizon"),
        (
            RunOptions(execution_horizon=4, execution="asynchronous"),
            "execution_horizon 4 was given with asynchronous execution; it must be below 4",
        ),
    ],
)
def test_a_word_that_the_bundle_cannot_mean_is_refused(options: RunOptions, message: str) -> None:
    with pytest.raises(GuidanceError, match=message):
        options.resolve(MANIFEST)


def test_a_bundle_without_critics_has_nothing_to_guide() -> None:
    with pytest.raises(GuidanceError, match="critic '' was given; bundle two has"):
        RunOptions().resolve(MANIFEST.model_copy(update={"critics": {}}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("guidance_weight", -1.0, "guidance_weight -1.0 was given; it must be at least 0"),
        ("guidance_weight", math.inf, "guidance_weight inf was given; it must be finite and at most 1000"),
        ("guidance_weight", 1000.5, "guidance_weight 1000.5 was given; it must be at most 1000"),
        ("guidance_weight", True, "guidance_weight True was given; it must be a number"),
        ("guidance_weight", "recommended", "guidance_weight 'recommended' was given; it must be a number"),
        ("num_samples", 0, "num_samples 0 was given; it must be at least 1"),
        ("num_samples", 1025, "num_samples 1025 was given; it must be at most 1024"),
        ("num_samples", 1.5, "num_samples 1.5 was given; it must be an integer"),
        ("execution_horizon", -1, "execution_horizon -1 was given; it must be at least 0"),
        ("execution_horizon", "recommended", "execution_horizon 'recommended' was given; it must be an integer"),
        ("seed", -1, "seed -1 was given; it must be at least 0"),
        ("critic", 3, "critic 3 was given; it must be a text"),
        ("ascent_sign", 1, "ascent_sign 1 was given; it must be true or false"),
        ("ascent_steps", 101, "ascent_steps 101 was given; it must be at most 100"),
        ("max_gradient_norm", 0.0, "max_gradient_norm 0.0 was given; it must be above 0, infinity for no limit"),
        ("max_guidance_deviation", math.nan, "max_guidance_deviation nan was given; it must be above 0"),
        ("guidance_weight_slew", -math.inf, "guidance_weight_slew -inf was given; it must be above 0"),
        ("execution", "parallel", "execution 'parallel' was given; it must be one of synchronous, asynchronous"),
        ("seam", "glue", "seam 'glue' was given; it must be one of switch, linear, ensemble, rtc"),
        ("blend_steps", 0, "blend_steps 0 was given; it must be at least 1"),
    ],
)
def test_a_value_that_no_bundle_can_run_is_refused_with_what_is_allowed(name: str, value: Any, message: str) -> None:
    options = RunOptions(**{name: value})
    for refuse in (options.check, lambda: options.resolve(MANIFEST)):
        with pytest.raises(GuidanceError) as refused:
            refuse()
        assert str(refused.value).startswith(message)


def test_a_recommended_weight_comes_with_the_settings_that_it_was_found_with() -> None:
    manifest = tuned(num_samples=4, estimator="noisy")
    expected = RunOptions(0.5, "near", 4, 3, estimator="noisy")
    assert RunOptions().resolve(manifest) == RunOptions(num_samples=4).resolve(manifest) == expected
    assert RunOptions().untested(manifest) == ""
    assert RunOptions(critic="far").resolve(manifest).num_samples == 1
    for weight in (0.0, 0.5):
        assert RunOptions(weight).resolve(manifest) == RunOptions(weight, "near", 1, 3), "a given weight comes alone"


def test_a_recommended_weight_is_refused_with_other_settings_than_it_was_found_with() -> None:
    manifest = tuned(num_samples=4, estimator="noisy")
    with pytest.raises(
        GuidanceError,
        match="the recommended guidance_weight was found with num_samples 4; set that too, or give a weight",
    ):
        RunOptions(num_samples=2).resolve(manifest)
    assert RunOptions(0.3, num_samples=2).resolve(manifest).num_samples == 2
    with pytest.raises(GuidanceError, match="found with of_a_later_version 3; set that too"):
        RunOptions().resolve(tuned(of_a_later_version=3))


def test_a_recommended_weight_that_was_found_with_the_bundle_s_own_horizon_is_taken_with_it() -> None:
    manifest = tuned(execution_horizon=3)
    assert RunOptions().resolve(manifest) == RunOptions(execution_horizon=3).resolve(manifest)
    with pytest.raises(GuidanceError, match="found with execution_horizon 3; set that too"):
        RunOptions(execution_horizon=2).resolve(manifest)


# What reports, fingerprints and telemetry are told.


def test_a_report_has_a_column_for_whatever_means_something() -> None:
    assert RunOptions().record() == {
        "num_samples": 1,
        "execution_horizon": OWN_HORIZON,
        "estimator": "qgf",
        "weight_schedule": "constant",
        "execution": "synchronous",
        "seam": "switch",
    }
    options = RunOptions(estimator="bptt", max_gradient_norm=2.0, disagreement_scale=math.inf, ascent_steps=4)
    assert options.record() == {**RunOptions().record(), "estimator": "bptt", "max_gradient_norm": 2.0}
    assert set(CHANGED.record()) == set(ROWS) - {"guidance_weight", "critic", "seed"}
    assert json.loads(json.dumps(CHANGED.record(), allow_nan=False)) == CHANGED.record()


def test_the_identity_of_a_run_is_what_its_outcome_depends_on_but_for_the_seed() -> None:
    assert BC.identity() == {"guidance_weight": 0.0, "critic": ""}
    assert RunOptions(0.1, "near", seed=3, blend_steps=7, ascent_steps=2).identity() == {
        "guidance_weight": 0.1,
        "critic": "near",
    }
    changed = {name: value for name, value in vars(CHANGED).items() if value != DEFAULTS[name] and name != "seed"}
    assert CHANGED.identity() == changed
    assert dataclasses.replace(CHANGED, seed=8).identity() == CHANGED.identity()
    resolved = RunOptions(0.1).resolve(MANIFEST)
    assert resolved.identity() == {"guidance_weight": 0.1, "critic": "near", "execution_horizon": 3}


def test_what_is_not_at_its_default_is_named() -> None:
    assert RunOptions().changed() == {}
    assert RunOptions(0.3, "far", seed=9, ascent_steps=4, ascent_sign=True, blend_steps=9).changed() == {}
    assert RunOptions(estimator="grad_step", ascent_steps=4).changed() == {"estimator": "grad_step", "ascent_steps": 4}
    plain, other = RunOptions(0.04), RunOptions(0.04, "", 4, 2, estimator="noisy", weight_schedule="linear")
    assert str(plain) == "weight 0.04"
    assert other.changed() == {
        "num_samples": 4,
        "execution_horizon": 2,
        "estimator": "noisy",
        "weight_schedule": "linear",
    }
    assert str(other) == "weight 0.04, num_samples 4, execution_horizon 2, estimator noisy, weight_schedule linear"
    assert str(RunOptions()) == "recommended weight"


def test_without_guidance_is_plain_behaviour_cloning_with_everything_that_does_not_guide() -> None:
    plain = CHANGED.without_guidance()
    guiding = {name for name, row in ROWS.items() if row.guiding}
    assert guiding == {
        "estimator",
        "ascent_steps",
        "ascent_sign",
        "max_gradient_norm",
        "disagreement_scale",
        "weight_schedule",
        "unguided_actions",
        "max_guidance_deviation",
    }
    for name in ROWS:
        expected = DEFAULTS[name] if name in guiding else getattr(CHANGED, name)
        assert getattr(plain, name) == (0.0 if name == "guidance_weight" else expected)
    assert RunOptions().without_guidance() == RunOptions(estimator="noisy").without_guidance() == BC


def test_telemetry_says_what_a_run_is_answered_with() -> None:
    figures = CHANGED.resolve(MANIFEST).figures()
    assert figures["guidance_weight"] == 0.25
    assert {name: getattr(CHANGED, name) for name in figures} == figures
    assert set(figures) <= set(ROWS)


def test_the_parameters_of_a_weight_are_a_number_and_whether_it_is_used() -> None:
    assert weight_parameters(0) == {"guidance_weight": 0.0, "use_recommended_weight": False}
    assert isinstance(weight_parameters(0)["guidance_weight"], float)
    assert weight_parameters(RECOMMENDED) == {"guidance_weight": 0.0, "use_recommended_weight": True}


# What any option is held to.

_NUMBERS = st.one_of(st.floats(), st.integers(-(2**70), 2**70), st.sampled_from([0, 1, 2, 3, 4, 0.5, 1.0, 1e-6]))
_VALUES = st.one_of(_NUMBERS, st.booleans(), st.none(), st.text(max_size=8))


def _values_of(name: str) -> st.SearchStrategy[Any]:
    words = ROWS[name].choices or {
        "critic": ("", *MANIFEST.critics),
        "weight_schedule": ("constant", "linear", "cosine", "falling", "0,0.5,1"),
        "unguided_actions": ("", "dx", " dgripper, dx"),
    }.get(name, ())
    return st.one_of(_VALUES, st.sampled_from(words)) if words else _VALUES


_ANY = st.fixed_dictionaries({}, optional={name: _values_of(name) for name in ROWS})


def _refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except GuidanceError as error:
        return str(error)
    return ""


@given(st.sampled_from(sorted(ROWS)), st.data())
def test_what_a_row_refuses_no_bundle_runs_and_what_one_runs_its_row_accepts(name: str, data: Any) -> None:
    value = data.draw(_values_of(name))
    options = RunOptions(**{name: value})
    recommended = name == "guidance_weight" and isinstance(value, float) and math.isnan(value)
    refused = "" if recommended else _refusal(lambda: ROWS[name].check(name, value, KINDS[name]))
    if refused:
        assert _refusal(options.check) == _refusal(lambda: options.resolve(MANIFEST)) == refused
        assert name in refused
    elif KINDS[name] is not str and name not in ("execution_horizon", "max_gradient_norm", "disagreement_scale"):
        assert _refusal(lambda: options.resolve(MANIFEST)) == ""


@given(_ANY)
def test_whatever_is_checked_is_refused_with_a_bundle_too_and_else_resolved_for_good(values: dict[str, Any]) -> None:
    options = RunOptions(**values)
    refused = _refusal(options.check)
    if refused:
        assert _refusal(lambda: options.resolve(MANIFEST)) == refused
        return
    beyond = _refusal(lambda: options.resolve(MANIFEST))
    if beyond:
        known = ("critic", "execution_horizon", "weight_schedule", "action")  # what only a bundle knows
        assert any(word in beyond for word in known)
        return
    resolved = options.resolve(MANIFEST)
    assert not resolved.recommended
    assert resolved.critic in MANIFEST.critics
    assert 1 <= resolved.execution_horizon <= MANIFEST.horizon
    assert resolved.resolve(MANIFEST) == resolved
    assert pickle.loads(pickle.dumps(resolved)) == resolved
    assert hash(pickle.loads(pickle.dumps(resolved))) == hash(resolved)
    assert resolved.guidance(MANIFEST) == options.guidance(MANIFEST)


# One row is all there is to an option.


def test_every_option_has_a_row_that_says_what_it_is() -> None:
    assert list(ROWS) == [field.name for field in dataclasses.fields(RunOptions)] == list(DEFAULTS) == list(KINDS)
    for name, row in ROWS.items():
        assert row.text[0].isupper(), name
        assert not row.text.endswith("."), name
        if KINDS[name] in (int, float):
            assert row.unit, name
            assert math.isfinite(row.lower), name
            assert math.isfinite(row.upper) or row.limit, name
            assert math.isinf(DEFAULTS[name]) or not row.limit, name
        if row.typical is not None:
            assert row.lower <= row.typical[0] < row.typical[1], name
        if row.steered:
            assert row.choices, name
        other, value = row.idle_unless
        assert other == "" or (other in ROWS and value in ROWS[other].choices and value != DEFAULTS[other])
        if name != "guidance_weight":
            row.check(name, DEFAULTS[name], KINDS[name])
    assert len({row.plural for row in ROWS.values() if row.plural}) == sum(bool(row.plural) for row in ROWS.values())


def _options_of(sub_command: str) -> set[str]:
    """Return the long options that a sub-command of `qgf` has, as names."""
    from qgf_ros.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        main([sub_command, "--help"])
    return {word.replace("-", "_") for word in re.findall(r"(?<= --)[a-z][a-z-]*", said.getvalue())}


@pytest.mark.parametrize("sub_command", SUB_COMMANDS)
def test_every_option_is_one_of_the_command_line(sub_command: str) -> None:
    found = _options_of(sub_command)
    plural = {name: row.plural for name, row in ROWS.items() if row.plural}
    expected = {
        "replay": set(REPLAYABLE),
        "tune": {plural.get(name, name) for name in ROWS if name != "seed"},  # seeds are of choosing and of reporting
    }.get(sub_command, {"guidance_weights" if name == "guidance_weight" else name for name in ROWS})
    assert expected <= found
    if sub_command not in ("replay", "tune"):
        assert not (set(plural.values()) - {"guidance_weights", "num_samples"}) & found
    assert "weights" not in found


def test_ros_and_page_have_every_option_of_a_row() -> None:
    pytest.importorskip("rclpy", reason="the declarations need the ros extra or a ROS 2 installation")
    from qgf_ros.nodes import parameters
    from qgf_ros.nodes.declarations import declarations
    from qgf_sim.dashboard.controls import controls_for

    declared = declarations()
    for name, row in ROWS.items():
        default, descriptor = declared[name]
        assert type(default) is KINDS[name]
        assert descriptor.description == row.sentence()
        assert (name in parameters.LIVE) == row.live
        assert all(word in descriptor.additional_constraints for word in row.choices)
        for bounds in (*descriptor.integer_range, *descriptor.floating_point_range):
            assert (bounds.from_value, bounds.to_value) == (row.lower, row.upper)
        numeric = KINDS[name] in (int, float)
        assert bool(descriptor.integer_range or descriptor.floating_point_range) == (numeric and not row.limit)
    assert parameters.options_from({name: default for name, (default, _) in declared.items()}).recommended
    offered = {control.name for control in controls_for(MANIFEST)}
    assert offered == {name for name, row in ROWS.items() if row.typical or row.steered} | {"critic"}


#: What a process does in which `run_options` has one more row.
_WITH_ONE_MORE = '''
import contextlib, io, json, runpy, sys, types
from pathlib import Path
from types import SimpleNamespace

path = Path(sys.argv[1])
row = """    temperature: float = _option(
        1.0, "Spread of the noise", unit="1", lower=0.0, upper=2.0, plural="temperatures", typical=(0.5, 1.5)
    )

    @property
    def asynchronous"""
text = path.read_text()
assert text.count("    @property\\n    def asynchronous") == 1
name = "qgf_ros.control.run_options"
module = types.ModuleType(name)
module.__file__ = str(path)
sys.modules[name] = module
exec(compile(text.replace("    @property\\n    def asynchronous", row), str(path), "exec"), module.__dict__)

from qgf_ros.cli import main
from qgf_ros.control.run_options import RunOptions
from qgf_ros.evaluation.tuning import Protocol
from qgf_ros.nodes.declarations import declarations
from qgf_ros.nodes.parameters import LIVE, options_from
from qgf_ros.recording.parameter_history import ParameterHistory
from qgf_sim.dashboard.controls import controls_for

table = runpy.run_path(str(path.parents[2] / "scripts" / "parameter_tables.py"))["table"]


def words(sub_command):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([sub_command, "--help"])
    return said.getvalue().split()


default, descriptor = declarations()["temperature"]
values = {name: value for name, (value, _) in declarations().items()}
recording = SimpleNamespace(parameters={"temperature": json.dumps(1.5)})
history = ParameterHistory(recording, "node", [])
print(json.dumps({
    "declared": [default, descriptor.floating_point_range[0].to_value, descriptor.description, "temperature" in LIVE],
    "documented": "| `temperature` | double | `1.0` | 0.0 to 2.0 | live | Spread of the noise [1]. |" in table("policy_node"),
    "set": options_from({**values, "temperature": 0.7}).temperature,
    "single": [name for name in ("demo", "evaluate", "render", "replay") if "--temperature" in words(name)],
    "tried": "--temperatures" in words("tune") and "--temperature" not in words("tune"),
    "control": [[c.lower, c.upper] for c in controls_for(None) if c.name == "temperature"],
    "identity": RunOptions(0.5, temperature=0.7).identity(),
    "column": RunOptions().record()["temperature"],
    "recorded": history.options(0).temperature,
}))
'''


def test_one_more_row_is_one_more_option_everywhere() -> None:
    for module in ("rclpy", "mcap", "ogbench"):
        pytest.importorskip(module, reason="the whole product needs the ros, record and sim extras")
    done = subprocess.run(
        [sys.executable, "-c", _WITH_ONE_MORE, inspect.getfile(run_options)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "declared": [1.0, 2.0, "Spread of the noise [1].", True],
        "documented": True,
        "set": 0.7,
        "single": ["demo", "evaluate", "render", "replay"],
        "tried": True,
        "control": [[0.5, 1.5]],
        "identity": {"guidance_weight": 0.5, "critic": "", "temperature": 0.7},
        "column": 1.0,
        "recorded": 1.5,
    }


def test_the_rows_load_nothing_that_the_command_line_does_not_need() -> None:
    code = "import sys, qgf_ros.control.run_options; print([n for n in ('numpy', 'pydantic', 'rclpy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"

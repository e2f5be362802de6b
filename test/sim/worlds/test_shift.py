"""Domain shifts: what they say, what they change, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.control.extraction import JointReading, PoseReading, VectorReading, WrenchReading
from qgf_ros.errors import SimulationError
from qgf_sim.worlds.shift import NONE, RANGES, Channel, Shift, camera_offset, multiply, parse_shifts, rotation

DOWN = np.array([0.0, 1.0, 0.0, 0.0])


def readings(step: float = 0.0) -> dict[str, object]:
    return {
        "joint_states": JointReading(("a", "b"), np.array([step, 1.0]), np.zeros(2), np.empty(0)),
        "effector_pose": PoseReading(np.full(3, step), DOWN),
        "gripper_wrench": WrenchReading(np.zeros(3), np.zeros(3)),
        "button_states": JointReading(("button_0",), np.array([1.0]), np.empty(0), np.empty(0)),
        "goal": VectorReading(np.ones(4)),
    }


def test_levels_of_one_name_follow_each_other_and_single_values_stay() -> None:
    assert parse_shifts("observation_noise=0,0.005,0.01,action_delay=1") == (
        Shift(observation_noise=0.0, action_delay=1),
        Shift(observation_noise=0.005, action_delay=1),
        Shift(observation_noise=0.01, action_delay=1),
    )
    assert parse_shifts("mass_factor=0.5,2,friction_factor=1,0.5") == (
        Shift(mass_factor=0.5),
        Shift(mass_factor=2.0, friction_factor=0.5),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("noise=1", "give NAME=VALUE with a name of observation_noise"),
        ("0.1", "give NAME=VALUE"),
        ("action_delay=0.5", "expected a whole number"),
        ("mass_factor=heavy", "expected a number"),
        ("mass_factor=1,2,size_factor=1,1.1,1.2", "equally many"),
        ("mass_factor=1,action_delay=1,mass_factor=2", "given twice"),
        ("observation_dropout=1", "from 0 to 0.95"),
        ("size_factor=nan", "from 0.5 to 2"),
        ("", "give NAME=VALUE"),
    ],
)
def test_a_text_that_names_no_shift_is_refused_with_what_is_allowed(text: str, sentence: str) -> None:
    with pytest.raises(SimulationError, match=sentence):
        parse_shifts(text)


@given(st.sampled_from(sorted(RANGES)), st.floats(0.0, 1.0))
def test_every_value_of_a_range_can_be_said_and_read_back(name: str, share: float) -> None:
    low, high = RANGES[name]
    value = type(getattr(NONE, name))(low + share * (high - low))
    (shift,) = parse_shifts(f"{name}={value!r}")
    assert getattr(shift, name) == value
    assert shift.changed == ({} if value == getattr(NONE, name) else {name: value})


def test_no_shift_passes_readings_and_commands_on_as_they_are() -> None:
    channel = Channel(NONE, 3)
    given_readings, command = readings(), np.array([1.0, 2.0])
    published = channel.observe(given_readings)
    assert all(published[topic] is reading for topic, reading in given_readings.items())
    assert channel.act(command) is command


def test_noise_has_the_deviation_asked_for_on_measurements_and_spares_states_and_goals() -> None:
    channel = Channel(Shift(observation_noise=0.05), 0)
    seen = [channel.observe(readings()) for _ in range(2000)]
    positions = np.array([step["joint_states"].position for step in seen])
    np.testing.assert_allclose(positions.mean(axis=0), [0.0, 1.0], atol=0.005)
    np.testing.assert_allclose(positions.std(axis=0), 0.05, rtol=0.05)
    np.testing.assert_allclose(np.std([step["gripper_wrench"].force for step in seen], axis=0), 0.05, rtol=0.05)
    quaternions = np.array([step["effector_pose"].quaternion_xyzw for step in seen])
    np.testing.assert_allclose(np.linalg.norm(quaternions, axis=1), 1.0, atol=1e-12)
    angles = 2 * np.arccos(np.clip(np.abs(quaternions @ DOWN), 0.0, 1.0))
    # The norm of three normal components: its mean square is three variances.
    assert np.sqrt(np.mean(angles**2)) == pytest.approx(0.05 * np.sqrt(3), rel=0.05)
    assert all(step["button_states"].position == 1.0 and (step["goal"].data == 1.0).all() for step in seen)
    assert seen[0]["joint_states"].effort.size == 0


@given(st.integers(0, 2**31 - 1))
def test_a_seed_is_an_episode_and_noise_leaves_the_dropouts_alone(seed: int) -> None:
    def run(shift: Shift) -> list[dict[str, object]]:
        channel = Channel(shift, seed)
        return [channel.observe(readings(float(i))) for i in range(5)]

    noisy, again, quiet = (run(Shift(observation_noise=noise, observation_dropout=0.4)) for noise in (0.1, 0.1, 0.0))
    for one, other, silent in zip(noisy, again, quiet):
        assert one.keys() == other.keys() == silent.keys()
        if "joint_states" in one:
            np.testing.assert_array_equal(one["joint_states"].position, other["joint_states"].position)


def test_messages_drop_out_as_often_as_asked_but_never_the_first() -> None:
    first, lost = [], []
    for seed in range(100):
        channel = Channel(Shift(observation_dropout=0.3), seed)
        first.append(len(channel.observe(readings())))
        lost += [len(readings()) - len(channel.observe(readings())) for _ in range(20)]
    assert set(first) == {len(readings())}
    assert np.mean(lost) / len(readings()) == pytest.approx(0.3, abs=0.01)


@given(st.integers(0, 5), st.integers(0, 5))
def test_delays_are_counted_in_control_steps(sensing: int, acting: int) -> None:
    channel = Channel(Shift(observation_delay=sensing, action_delay=acting), 0)
    for i in range(10):
        seen = channel.observe(readings(float(i)))["joint_states"].position[0]
        assert seen == max(0, i - sensing)
        done = channel.act(np.array([1.0 + i]))[0]
        assert done == (1.0 + i - acting if i >= acting else 0.0)


def test_quaternions_turn_as_matrices_do() -> None:
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rotation(np.array([0.0, 0.0, np.pi / 2])), [0.0, 0.0, half, half], atol=1e-15)
    np.testing.assert_array_equal(rotation(np.zeros(3)), [0.0, 0.0, 0.0, 1.0])
    quarter_x, quarter_z = rotation(np.array([np.pi / 2, 0.0, 0.0])), rotation(np.array([0.0, 0.0, np.pi / 2]))
    # z then x: the x axis goes to y and on to z.
    product = multiply(quarter_x, quarter_z)
    pure = np.array([1.0, 0.0, 0.0, 0.0])
    conjugate = product * np.array([-1.0, -1.0, -1.0, 1.0])
    np.testing.assert_allclose(multiply(multiply(product, pure), conjugate), [0.0, 0.0, 1.0, 0.0], atol=1e-15)


def test_the_camera_is_off_by_the_deviation_asked_for_and_by_the_seed() -> None:
    shift = Shift(camera_jitter=0.02)
    offsets = np.array([camera_offset(shift, seed)[0] for seed in range(1000)])
    np.testing.assert_allclose(offsets.std(axis=0), 0.02, rtol=0.1)
    position, turned = camera_offset(NONE, 5)
    assert not position.any() and turned.tolist() == [0.0, 0.0, 0.0, 1.0]

"""Readings computed back from recorded observations, and the report on commands, without ROS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="replay needs the contract of the sim extra")

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.extraction import JointReading, PoseReading
from qgf_ros.control.observation import ObservationAssembler
from qgf_ros.control.vision.pictures import CompressedReading, ImageReading
from qgf_ros.errors import SimulationError
from qgf_ros.learning.data.dataset import Dataset, load_dataset
from qgf_sim.bridge.recorded_world import RecordedWorld, readings_from_vector
from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.families import action_fields, camera_fields, observation_fields
from qgf_sim.worlds.shift import Shift

FIELDS = observation_fields("cube-single")
ACTION = action_fields()
SCALE = np.array([field.scale for field in ACTION])


def assemble(fields: tuple[ObservationField, ...], readings: object) -> np.ndarray:
    assembler = ObservationAssembler(fields, 0.05)
    for topic, reading in dict(readings).items():  # type: ignore[call-overload]
        assembler.update(topic, 1, reading)
    return assembler.assemble(1).vector


@pytest.fixture(scope="module")
def recording() -> Dataset:
    """Two short episodes of random actions, with real states."""
    env = TaskEnvironment("cube-single", 1)
    random = np.random.default_rng(0)
    rows: dict[str, list[np.ndarray]] = {"observations": [], "actions": [], "qpos": [], "qvel": []}
    for seed in (1, 2):
        env.reset(seed)
        for _ in range(7):
            action = random.uniform(-1, 1, 5).astype(np.float32)
            values = (env.observation(), action, env.unwrapped.data.qpos.copy(), env.unwrapped.data.qvel.copy())
            for key, value in zip(rows, values, strict=True):
                rows[key].append(value.astype(np.float32))
            env.step(action * SCALE)
    env.close()
    arrays = {key: np.array(value) for key, value in rows.items()}
    terminals = np.zeros(14, dtype=bool)
    terminals[[6, 13]] = True
    return Dataset(
        arrays["observations"], arrays["actions"], terminals, {"qpos": arrays["qpos"], "qvel": arrays["qvel"]}
    )


def test_a_picture_has_the_same_colours_in_training_on_the_topic_in_the_node_and_in_a_recording(tmp_path: Path) -> None:
    """Every path ends with the bytes of the data set: red first, whatever a driver or a file calls first."""
    pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")
    pytest.importorskip("mcap", reason="recordings need the record extra")
    cv2 = pytest.importorskip("cv2", reason="pictures need the camera extra")
    from qgf_ros.control.vision.decoding import decode
    from qgf_ros.nodes.messages import picture_message, received
    from qgf_ros.recording.recorded_readings import to_picture
    from qgf_ros.recording.recording import Recorded

    name, rows = "visual-cube-single", 4
    pictures = np.zeros((rows, 64, 64, 3), np.uint8)
    pictures[:, :32, :, 0] = 200 + np.arange(rows)[:, None, None]  # red above, of each row another
    pictures[:, 32:, :32, 1], pictures[:, 32:, 32:, 2] = 120, 60  # green and blue below
    vectors = np.zeros((rows, 19), np.float32)
    vectors[:, 0], vectors[:, 15] = np.arange(rows), 1.0  # the first joint is the number of the row; a yaw of zero
    ends = np.arange(rows) == rows - 1
    arrays = {"observations": vectors, "actions": np.zeros((rows, 5), np.float32), "terminals": ends}
    path = tmp_path / "play.npz"
    np.savez(path, **arrays, **{"images/camera": pictures})  # type: ignore[arg-type]

    dataset = load_dataset(path)
    assert dataset.pictures is not None
    trained = dataset.pictures.opened(tmp_path / "cache").take(np.array([2, 0]))["camera"]
    assert trained.tobytes() == pictures[[2, 0]].tobytes()
    camera, world = camera_fields(name)["camera"], RecordedWorld.open(path, name)
    readings = world.start(1, 0)
    for row in range(rows):
        message = picture_message(readings[camera.topic], 1)  # type: ignore[arg-type]
        assert readings["joint_states"].position[0] == row  # type: ignore[union-attr]
        node_sees = decode("camera", camera, received(message))  # type: ignore[arg-type]
        assert node_sees.tobytes() == pictures[row].tobytes()
        recorded = Recorded(camera.topic, "sensor_msgs/msg/Image", 1, 1, message, True)
        assert decode("camera", camera, to_picture(recorded)).tobytes() == pictures[row].tobytes()
        blue_first = ImageReading.of(pictures[row, ..., ::-1], "bgr8")
        driver = camera.model_copy(update={"encoding": "bgr8"})
        assert decode("camera", driver, blue_first).tobytes() == pictures[row].tobytes()
        file = cv2.imencode(".png", pictures[row, ..., ::-1])[1]
        packed = CompressedReading("rgb8; png compressed ", file)
        assert decode("camera", camera, packed).tobytes() == pictures[row].tobytes()
        readings = world.step(np.zeros(5)).readings
    world.close()


def test_readings_assemble_to_the_recorded_vector(recording: Dataset) -> None:
    for vector in recording.observations:
        np.testing.assert_allclose(assemble(FIELDS, readings_from_vector(FIELDS, vector)), vector, atol=1e-6, rtol=0)


def test_readings_hold_physical_quantities(recording: Dataset) -> None:
    readings = readings_from_vector(FIELDS, recording.observations[0])
    joints, effector = readings["joint_states"], readings["effector_pose"]
    assert isinstance(joints, JointReading)
    assert isinstance(effector, PoseReading)
    np.testing.assert_allclose(joints.position[:6], recording.extras["qpos"][0][:6], atol=1e-6)
    assert np.linalg.norm(effector.quaternion_xyzw) == pytest.approx(1.0)
    assert 0.2 < effector.position[2] < 0.4  # [m], the arm's sampling bounds


@pytest.mark.parametrize(
    ("message_type", "extraction", "size"),
    [
        ("geometry_msgs/msg/PoseStamped", "yaw", 1),
        ("geometry_msgs/msg/TwistStamped", "linear", 3),
        ("geometry_msgs/msg/TwistStamped", "angular", 3),
        ("geometry_msgs/msg/WrenchStamped", "force", 3),
        ("geometry_msgs/msg/WrenchStamped", "torque", 3),
        ("geometry_msgs/msg/WrenchStamped", "wrench_norm", 1),
        ("std_msgs/msg/Float64MultiArray", "data", 4),
    ],
)
def test_readings_of_every_extraction_come_back(message_type: str, extraction: str, size: int) -> None:
    field = ObservationField(
        name="block", topic="t", message_type=message_type, extraction=extraction, size=size, unit="1", scale=2.0
    )
    vector = np.linspace(0.5, 1.5, size, dtype=np.float32)
    np.testing.assert_allclose(assemble((field,), readings_from_vector((field,), vector)), vector, atol=1e-6)


def test_episodes_are_the_recorded_trajectories_and_differences_are_in_units(recording: Dataset) -> None:
    world = RecordedWorld(recording, FIELDS, ACTION)
    assert world.episodes == 2
    assert [world.has_episode(seed) for seed in (-1, 0, 1, 2)] == [False, True, True, False]
    readings = world.start(1, 1)
    for row in range(7, 14):
        np.testing.assert_allclose(assemble(FIELDS, readings), recording.observations[row], atol=1e-6, rtol=0)
        error = 0.01 if row == 9 else 0.0
        step = world.step(recording.actions[row] * SCALE + np.array([0.0, error, 0.0, 0.0, 0.0]))
        readings = step.readings
        assert step.success is None
        assert step.done == (row == 13)
    report = world.details()["replay"]
    assert report["difference_max"]["dy"] == pytest.approx(0.01)
    assert report["difference_mean"]["dy"] == pytest.approx(0.01 / 7)
    assert report["difference_max"]["dx"] == pytest.approx(0.0, abs=1e-12)


def test_recorded_actions_are_compared_as_the_commands_that_they_stand_for(recording: Dataset) -> None:
    offset = np.array([0.2, -0.1, 0.0, 1.5, 0.5])
    action = [
        field.model_copy(update={"offset": by, "lower": by - field.scale, "upper": by + field.scale})
        for field, by in zip(ACTION, offset.tolist(), strict=True)
    ]
    world = RecordedWorld(recording, FIELDS, action)
    world.start(1, 0)
    world.step(recording.actions[0] * SCALE + offset)
    assert max(world.details()["replay"]["difference_max"].values()) < 1e-7


def test_an_episode_that_is_not_recorded_is_refused(recording: Dataset) -> None:
    with pytest.raises(SimulationError, match="has 0 to 1"):
        RecordedWorld(recording, FIELDS, ACTION).start(1, 2)


@pytest.mark.parametrize(
    ("change", "named"), [({"shift": Shift(mass_factor=2.0)}, "mass_factor 2"), ({"keyframe": "home"}, "home")]
)
def test_a_recording_cannot_be_shifted_or_put_into_a_keyframe(
    recording: Dataset, change: dict[str, object], named: str
) -> None:
    with pytest.raises(SimulationError, match=f"{named} was given with mode replay; a recording is what it is"):
        RecordedWorld(recording, FIELDS, ACTION).start(1, 0, **change)


def test_a_recording_of_another_environment_is_refused(recording: Dataset) -> None:
    other = Dataset(recording.observations[:, :20], recording.actions, recording.terminals, {})
    with pytest.raises(SimulationError, match=r"\(20, 5\).*\(28, 5\)"):
        RecordedWorld(other, FIELDS, ACTION)


def test_pictures_need_recorded_states(recording: Dataset) -> None:
    bare = Dataset(recording.observations, recording.actions, recording.terminals, {})
    scene = TaskEnvironment("cube-single", 1)
    with pytest.raises(SimulationError, match="qpos"):
        RecordedWorld(bare, FIELDS, ACTION, scene)
    scene.close()


def test_a_scene_with_buttons_is_replayed_with_their_states(monkeypatch: pytest.MonkeyPatch) -> None:
    env = TaskEnvironment("scene", 1)
    fields = observation_fields("scene")
    env.reset(0)
    inner = env.unwrapped
    rows: dict[str, list[np.ndarray]] = {"observations": [], "qpos": [], "qvel": [], "button_states": []}
    for buttons in ([1, 0], [0, 1], [1, 1]):
        env.step(np.array([0.02, -0.02, -0.05, 0.1, 1.0]))
        env.set_state(inner.data.qpos.copy(), inner.data.qvel.copy(), np.array(buttons))
        values = (env.observation(), inner.data.qpos.copy(), inner.data.qvel.copy(), np.array(buttons))
        for key, value in zip(rows, values, strict=True):
            rows[key].append(value)
    vectors = np.array(rows.pop("observations"), dtype=np.float32)
    extras = {key: np.array(value) for key, value in rows.items()}
    recording = Dataset(vectors, np.zeros((3, 5), dtype=np.float32), np.arange(3) == 2, extras)
    bare = Dataset(vectors, recording.actions, recording.terminals, {key: extras[key] for key in ("qpos", "qvel")})
    with pytest.raises(SimulationError, match="no qpos and qvel and button_states"):
        RecordedWorld(bare, fields, ACTION, env)
    world = RecordedWorld(recording, fields, ACTION, env)
    monkeypatch.setattr(env, "render", lambda width, height: np.zeros((height, width, 3), dtype=np.uint8))
    readings = world.start(1, 0)
    for vector in vectors:
        np.testing.assert_allclose(assemble(fields, readings), vector, atol=1e-6, rtol=0)
        world.picture(4, 3)
        np.testing.assert_allclose(
            np.delete(env.observation(), 18), np.delete(vector, 18), atol=1e-5
        )  # all but contact
        readings = world.step(np.zeros(5)).readings
    world.close()

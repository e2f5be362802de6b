"""The simulation bridge: an OGBench task, or a recording of one, as a robot on ROS topics.

Each control step publishes one set of observation messages that share one stamp, and /clock. A command on ``command``
names the stamp it answers. In lockstep the next step waits for exactly that command; in real time it does not wait.
Time is simulated, begins at the wall clock's and never goes back.

While nothing moves (a missing command, a pause, a finished episode) the newest set goes out again twice a second, so
that a node started later, or again, takes up where the other left.

A domain shift comes in with the world and shows here only as messages that are not published.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from qgf_ros.control.extraction import Reading
from qgf_ros.control.vision.pictures import ImageReading
from qgf_ros.errors import ObservationError, QgfError
from qgf_ros.launching.executables import told_to_end
from qgf_ros.nodes.admission.ros_arguments import check_parameter_files, init_ros
from qgf_ros.nodes.admission.strict_parameters import StrictNode
from qgf_ros.nodes.messages import command_values, from_time
from qgf_sim.bridge.bridge_parameters import beginning, declare, shift_of
from qgf_sim.bridge.clock import SimulatedClock
from qgf_sim.bridge.episodes import EpisodeOutcome, ResultsFile
from qgf_sim.bridge.pacing import LockstepPace, Pace, RealtimePace
from qgf_sim.bridge.publications import Publications
from qgf_sim.bridge.recorded_world import RecordedWorld
from qgf_sim.bridge.sources import SimulatedWorld, World
from qgf_sim.worlds.environment import CONTROL_PERIOD
from qgf_sim.worlds.families import action_fields
from qgf_sim.worlds.shift import NONE

#: While nothing moves, the newest observations are published again after this long [s, wall time].
REPUBLISH_PERIOD = 0.5
#: Longest wait for a message [s]; bounds how long a signal goes unnoticed.
LONGEST_WAIT = 0.1
#: The same complaint is not logged again for this long [s].
THROTTLE = 5.0


class SimBridge:
    """Simulation behind the topics of a node. Call `advance` between the executor's spins.

    Args:
        node: A fresh node; parameters, topics and services become its own.

    Raises:
        QgfError: A parameter is wrong, or a file cannot be read or written.
    """

    def __init__(self, node: StrictNode) -> None:
        self.node = node
        declare(node)
        self.finished = False
        self._fields = action_fields()
        self._realtime = self._value("mode") == "realtime"
        self._pace: Pace = LockstepPace(len(self._fields))
        if self._realtime:
            self._pace = RealtimePace(CONTROL_PERIOD, self._value("hold_limit"), len(self._fields))
        self._world = self._make_world()
        self._clock = SimulatedClock(time.time_ns(), CONTROL_PERIOD)
        results_file = self._value("results_file")
        self._results = ResultsFile(Path(os.path.expanduser(results_file))) if results_file else None
        self._running = self._paused = self._commanded = False
        self._episode = self._task = self._seed = self._length = self._refused = self._granted = 0
        self._keyframe, self._shift = "", NONE
        self._readings: Mapping[str, Reading | ImageReading] = {}
        self._published = self._waiting_since = time.monotonic()
        self._connect()
        if self._value("autostart"):
            self._start()
        node.get_logger().info(beginning(node))

    def _value(self, name: str) -> Any:
        return self.node.get_parameter(name).value

    def _make_world(self) -> World:
        name = self._value("environment")
        if self._value("mode") != "replay":
            return SimulatedWorld(name)
        task = self._value("task") if self._value("camera") else None
        return RecordedWorld.open(Path(os.path.expanduser(self._value("replay_file"))), name, task)

    def _connect(self) -> None:
        picture = (self._value("camera_width"), self._value("camera_height")) if self._value("camera") else None
        self._publications = Publications(self.node, self._value("environment"), picture)
        self.node.create_subscription(JointState, "command", self._on_command, 10)
        self.node.create_service(Trigger, "~/reset", self._on_reset)
        self.node.create_service(SetBool, "~/pause", self._on_pause)
        self.node.create_service(Trigger, "~/step", self._on_step)

    def advance(self) -> float:
        """Do what is due; return for how long to wait for messages before calling again [s]."""
        now = time.monotonic()
        if not self._running or (self._paused and not self._granted):
            return self._stand_by(now)
        if isinstance(self._pace, RealtimePace):
            self._pace.period = CONTROL_PERIOD / self._value("speed_factor")
            self._pace.hold_limit = self._value("hold_limit")
        command = self._pace.due(now)
        if command is None:
            return self._pace.wait(now) if self._realtime else self._stand_by(now)
        self._granted = max(0, self._granted - 1)
        if self._realtime and not self._commanded:
            # No node has ever spoken: time goes on, as timers of a node need it to, but the episode waits.
            self._clock.step()
            self._publish()
        else:
            self._step(command)
        return 0.0

    def _stand_by(self, now: float) -> float:
        if self._running and not self._paused and now - self._waiting_since > THROTTLE:
            self.node.get_logger().warning(
                f"waiting on topic command for the answer to stamp {self._clock.now}; is the policy node active?",
                throttle_duration_sec=2 * THROTTLE,
            )
        if now - self._published >= REPUBLISH_PERIOD:
            self._publish()
        return self._published + REPUBLISH_PERIOD - now

    def _start(self) -> None:
        """Begin the episode that the parameters task and seed name."""
        task, seed = self._value("task"), self._value("seed")
        keyframe, shift = self._value("keyframe"), shift_of(self.node)
        self._readings = self._world.start(task, seed, shift, keyframe)
        self._publications.goal(self._world.goal)
        self._task, self._seed, self._keyframe, self._shift = task, seed, keyframe, shift
        self._length = self._refused = self._granted = 0
        self._running = True
        self._pace.start(self._clock.reset())
        self._publish()

    def _step(self, command: NDArray[np.float64]) -> None:
        step = self._world.step(command)
        self._length += 1
        if step.done:
            self._finish(step.success)
            return
        self._readings = step.readings
        self._clock.step()
        self._publish()

    def _finish(self, success: bool | None) -> None:
        """Report the episode and begin the next one, unless this was the last."""
        self._running = False
        self._episode += 1
        outcome = EpisodeOutcome(
            episode=self._episode,
            task=self._task,
            seed=self._seed,
            success=success,
            length=self._length,
            late_commands=self._pace.late_commands,
            held_steps=self._pace.held_steps,
            refused_commands=self._refused,
            keyframe=self._keyframe,
            shift=self._shift.changed,
            details=self._world.details(),
        )
        if self._results is not None:
            self._results.append(outcome)
        self._publications.conclude(outcome)
        self.node.get_logger().info(f"episode finished: {outcome.to_json()}")
        if self._value("auto_reset") and self._value("seed") == self._seed:
            self.node.set_parameters([Parameter("seed", Parameter.Type.INTEGER, self._seed + 1)])
        last = 0 < self._value("episodes") <= self._episode
        if self._value("auto_reset") and not self._world.has_episode(self._value("seed")):
            self.node.get_logger().info("the recording has no more episodes")
            last = True
        if last:
            self.finished = bool(self._value("exit_when_done"))
        elif self._value("auto_reset"):
            try:
                self._start()
            except QgfError as error:  # of a parameter that was set meanwhile; ~/reset goes on once it is mended
                self.node.get_logger().error(f"no episode follows: {error}")

    def _publish(self) -> None:
        """Publish /clock and, within an episode, its newest observations, all of one stamp."""
        stamp = self._clock.now
        self._publications.time(stamp)
        self._published = time.monotonic()
        if not self._running:
            return
        complete = self._publications.observe(self._readings, stamp)
        self._pace.observed(stamp, complete=complete)
        self._publications.show(self._world, stamp)

    def _on_command(self, message: JointState) -> None:
        try:
            values = command_values(self._fields, message)
        except ObservationError as error:
            self._refused += 1
            self.node.get_logger().warning(f"refused: {error}", throttle_duration_sec=THROTTLE)
            return
        if not self._running:
            return
        verdict = self._pace.offer(from_time(message.header.stamp), values)
        if verdict == "foreign":
            self.node.get_logger().warning(
                f"ignored: a command is stamped {from_time(message.header.stamp)}, which is no observation of this episode "
                f"(the newest is {self._clock.now}); a command carries the stamp of the observation it answers",
                throttle_duration_sec=THROTTLE,
            )
            return
        if not self._commanded:
            self._commanded = True
            self._pace.held_steps = 0
        if verdict == "accepted":
            self._waiting_since = time.monotonic()

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._start()
        except QgfError as error:
            response.success, response.message = False, str(error)
            return response
        begun = f"episode {self._episode + 1}: task {self._task}, seed {self._seed}"
        response.success, response.message = True, f"{begun}, first observation at stamp {self._clock.now} ns"
        return response

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._paused, self._granted = bool(request.data), 0
        self._waiting_since = time.monotonic()
        response.success = True
        response.message = "paused; ~/step does as many control steps as parameter steps" if self._paused else "running"
        return response

    def _on_step(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._paused and self._running
        if response.success:
            self._granted += self._value("steps")
            response.message = f"control steps to do: {self._granted}, each as soon as its command is there"
        elif not self._running:
            response.message = "no episode is running; call ~/reset first"
        else:
            response.message = "steps are done by themselves; pause first with ~/pause"
        return response

    def close(self) -> None:
        """Let the last outcome reach its subscribers, and free the simulation."""
        if self._episode:
            self._publications.wait_for_acknowledgement()
        self._world.close()
        self.node.destroy_node()


def run(bridge: SimBridge, stop: threading.Event) -> None:
    """Run a bridge until it has finished or `stop` is set."""
    executor = SingleThreadedExecutor()
    executor.add_node(bridge.node)
    try:
        while rclpy.ok() and not stop.is_set() and not bridge.finished:
            executor.spin_once(timeout_sec=min(max(bridge.advance(), 0.0), LONGEST_WAIT))
    finally:
        bridge.close()
        executor.shutdown()


def main(args: list[str] | None = None) -> int:
    """Run the bridge as a process; `told_to_end`, it ends between two steps, with exit code 0."""
    stop = told_to_end()
    try:
        init_ros(args)  # without rclpy's own handlers, which would invalidate the publishers in the middle of a step
        node = StrictNode("sim_bridge")
        check_parameter_files(node.get_fully_qualified_name(), args)
        run(SimBridge(node), stop)
    except QgfError as error:
        get_logger("sim_bridge").fatal(str(error))
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())

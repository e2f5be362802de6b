"""Who says when an episode of a running graph begins, and how it ended: the simulation bridge, a service or a person.

A robot holds, by the node's ``~/hold``, from the end of an episode until the next one is asked for, so that whoever sets
the scene up is safe from it. Nobody is told which configuration is up: who judges must not know what is hoped for.
"""

from __future__ import annotations

import json
import os
import select
import sys
import termios
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from qgf_ros.errors import SimulationError
from qgf_sim.bridge.episodes import begun_episode
from qgf_sim.live.ros_client import RosClient


@dataclass(frozen=True)
class Verdict:
    """How an episode ended.

    Attributes:
        success: Whether the task was solved; None for an episode that does not count.
        length: Control steps, where the referee has counted them.
    """

    success: bool | None
    length: int | None = None


class Referee(Protocol):
    """Begins and judges episodes."""

    #: Whether an episode goes on by itself, so that a long silence is a fault.
    automatic: bool

    def prepare(self) -> None:
        """Wait until the scene is set up; nothing moves."""

    def start(self, task: int | None, seed: int) -> int:
        """Begin; return the stamp before which no tick belongs to the episode [ns]."""
        ...

    def verdict(self) -> Verdict | None:
        """Return how the episode ended, None as long as it has not."""
        ...

    def stop(self) -> None:
        """Let nothing move until the next start."""

    def close(self) -> None:
        """Leave everything as it was found, as far as that is safe."""


class BridgeReferee:
    """The simulation bridge: it has seeds, and knows by itself when a task is solved.

    Args:
        graph: The node to talk through.
        bridge: Name of the bridge.

    Raises:
        SimulationError: There is no such bridge.
    """

    automatic = True

    def __init__(self, graph: RosClient, bridge: str) -> None:
        self._graph = graph
        self._bridge = bridge
        self._expected = 0
        self._outcome: dict[str, Any] | None = None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        graph.node.create_subscription(String, f"{bridge}/episode", self._on_episode, latched)
        self._found = graph.get(bridge, ("task", "seed", "auto_reset"))
        graph.set(bridge, {"auto_reset": False})

    def prepare(self) -> None:
        """The bridge needs no preparation."""

    def start(self, task: int | None, seed: int) -> int:
        """Begin the episode of a task and a seed; return the stamp of its first observation [ns].

        Raises:
            SimulationError: The bridge refuses.
        """
        self._graph.set(self._bridge, {"seed": seed} if task is None else {"task": task, "seed": seed})
        self._outcome = None
        answer = self._graph.call(Trigger, f"{self._bridge}/reset", Trigger.Request())
        begun = begun_episode(answer.message)
        if not answer.success or begun is None:
            raise SimulationError(f"{self._bridge} refused to start an episode: {answer.message}")
        self._expected, first = begun
        return first

    def verdict(self) -> Verdict | None:
        """Return the outcome of the episode once the bridge has published it."""
        # The topic is latched: at first there may be an outcome from before.
        if self._outcome is None or self._outcome["episode"] < self._expected:
            return None
        return Verdict(bool(self._outcome["success"]), int(self._outcome["length"]))

    def stop(self) -> None:
        """The bridge waits by itself."""

    def close(self) -> None:
        """Put the bridge's parameters back, and let its episodes go on if they did."""
        self._graph.set(self._bridge, self._found)
        if self._found["auto_reset"].bool_value:
            self._graph.call(Trigger, f"{self._bridge}/reset", Trigger.Request())

    def _on_episode(self, message: String) -> None:
        self._outcome = json.loads(message.data)


class RobotReferee(ABC):
    """A robot, which holds between episodes; how an episode begins and ends is for children to say.

    Args:
        graph: The node to talk through.
        policy: Name of the policy node.

    Raises:
        SimulationError: There is no such node, or its commands do not reach the robot.
    """

    automatic = False

    def __init__(self, graph: RosClient, policy: str) -> None:
        self._graph = graph
        self._policy = policy
        if not graph.get(policy, ("enable_motion",))["enable_motion"].bool_value:
            raise SimulationError(
                f"enable_motion of {policy} is false, no command reaches the robot; set it, or tune with --outcomes bridge"
            )
        self.stop()

    @abstractmethod
    def prepare(self) -> None:
        """Wait until somebody says that the scene is set up."""

    @abstractmethod
    def verdict(self) -> Verdict | None:
        """Return what somebody said of the episode."""

    def start(self, task: int | None, seed: int) -> int:
        """Let the robot move; a tick of any stamp belongs to the episode."""
        self._ask("resume")
        return 0

    def stop(self) -> None:
        """Let the robot hold.

        Raises:
            SimulationError: The hold could not be published.
        """
        self._ask("hold")

    def close(self) -> None:
        """Leave the robot holding: nobody has said that the scene is clear."""
        # A second hold: Ctrl-C may have left a resume unanswered, which was then served after the first.
        self.stop()

    def _ask(self, service: str) -> None:
        answer = self._graph.call(Trigger, f"{self._policy}/{service}", Trigger.Request())
        if not answer.success:
            raise SimulationError(f"{self._policy} refused {service}: {answer.message}")


class ServiceReferee(RobotReferee):
    """A program beside the robot, or a person with `ros2 service call`.

    ``~/start`` says that the scene is set up, ``~/outcome`` whether the task was solved.
    """

    def __init__(self, graph: RosClient, policy: str) -> None:
        super().__init__(graph, policy)
        self._ready = False
        self._running = False
        self._success: bool | None = None
        graph.node.create_service(Trigger, "~/start", self._on_start)
        graph.node.create_service(SetBool, "~/outcome", self._on_outcome)

    def prepare(self) -> None:
        """Wait for ``~/start``."""
        self._success = None
        self._graph.until(lambda: self._ready, float("inf"), "")

    def start(self, task: int | None, seed: int) -> int:
        """Let the robot move, and listen to ``~/outcome``."""
        self._ready, self._running = False, True
        return super().start(task, seed)

    def verdict(self) -> Verdict | None:
        """Return what ``~/outcome`` said."""
        return None if self._success is None else Verdict(self._success)

    def stop(self) -> None:
        """Let the robot hold, and listen to ``~/start``."""
        self._running = False
        super().stop()

    def _on_start(self, request: Any, response: Any) -> Any:
        response.success = not self._running and not self._ready
        self._ready = self._ready or response.success
        response.message = "the episode begins" if response.success else "an episode is under way; report its ~/outcome"
        return response

    def _on_outcome(self, request: Any, response: Any) -> Any:
        response.success = self._running and self._success is None
        if response.success:
            self._success = bool(request.data)
        response.message = (
            "noted" if response.success else "no episode is under way; call ~/start when the scene is set up"
        )
        return response


class KeyReferee(RobotReferee):
    """A person at a terminal: Enter begins an episode, y and n end it, r repeats one that does not count.

    Args:
        graph, policy: As of `RobotReferee`.
        say: Shows a line.
        read: Returns the key that was pressed, or None.
    """

    def __init__(
        self, graph: RosClient, policy: str, say: Callable[[str], None], read: Callable[[], str | None] | None = None
    ) -> None:
        self._say = say
        # Without one, the robot had better not be held for nothing.
        self._terminal: Terminal | None = None
        if read is None:
            self._terminal = Terminal()
            read = self._terminal.read
        self._read = read
        try:
            super().__init__(graph, policy)
        except BaseException:
            self._give_back()
            raise

    def prepare(self) -> None:
        """Wait for Enter."""
        while self._read() is not None:  # pressed before the question
            pass
        self._say("set the scene up, then press Enter; the robot will move")
        self._graph.until(lambda: self._read() in ("\n", "\r"), float("inf"), "")
        self._say("y: solved   n: not solved   r: does not count, repeat it")

    def verdict(self) -> Verdict | None:
        """Return what the key says."""
        key = self._read()
        return Verdict({"y": True, "n": False, "r": None}[key]) if key in ("y", "n", "r") else None

    def close(self) -> None:
        """Give the terminal back, and leave the robot holding."""
        self._give_back()
        super().close()

    def _give_back(self) -> None:
        if self._terminal is not None:
            self._terminal.close()


class Terminal:
    """Single keys of the terminal, without Enter and without waiting.

    Raises:
        SimulationError: Standard input is no terminal.
    """

    def __init__(self) -> None:
        self._input = sys.stdin.fileno()
        if not os.isatty(self._input):
            raise SimulationError("outcomes by keys need a terminal; start it in one, or use --outcomes service")
        self._found = termios.tcgetattr(self._input)
        tty.setcbreak(self._input)

    def read(self) -> str | None:
        """Return the next key that was pressed, or None."""
        if not select.select([self._input], [], [], 0)[0]:
            return None
        return os.read(self._input, 1).decode(errors="replace") or None

    def close(self) -> None:
        """Put the terminal back as it was."""
        termios.tcsetattr(self._input, termios.TCSADRAIN, self._found)

"""A ROS node that asks other nodes, waits for their answers, and can be interrupted between two messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from qgf_ros.errors import SimulationError

#: Longest wait for a node to be found, and for an answer of it [s].
DISCOVERY_TIMEOUT, ANSWER_TIMEOUT = 30.0, 30.0
#: An answer is lost where the other side has not discovered this one yet; it is asked so often.
ATTEMPTS = 4


class RosClient:
    """A node of one's own in a running graph.

    Args:
        name: Of the node.
        context: ROS context to live in.
        between: Called between messages; what it raises goes to the caller.

    Attributes:
        node: The node, for publishers, subscriptions and services.
        between: See above.
    """

    def __init__(self, name: str, context: Context, between: Callable[[], None] = lambda: None) -> None:
        self.node = Node(name, context=context, use_global_arguments=False)
        self.between = between
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._clients: dict[str, Any] = {}

    def until(self, done: Callable[[], bool], timeout: float, missing: str) -> None:
        """Take messages in until `done`.

        Raises:
            SimulationError: It takes longer than `timeout` [s]; the message is `missing`.
        """
        if not self._wait(done, timeout):
            raise SimulationError(missing)

    def listen(self, duration: float) -> None:
        """Take messages in for some time [s]."""
        self._wait(lambda: False, duration)

    def _wait(self, done: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not done():
            self._executor.spin_once(timeout_sec=0.05)
            self.between()
            if time.monotonic() > deadline:
                return False
        return True

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service, which may be asked twice, and return its response.

        Raises:
            SimulationError: There is no such service, or no answer.
        """
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        client = self._clients[name]
        owner = name.rpartition("/")[0]
        self.until(
            client.service_is_ready,
            DISCOVERY_TIMEOUT,
            f"there is no service {name}; start {owner}, or give its name as 'ros2 node list' shows it",
        )
        for _ in range(ATTEMPTS):
            # Requests are served in their order: with the answer to the last one, no other is left.
            future = client.call_async(request)
            if self._wait(future.done, ANSWER_TIMEOUT):
                return future.result()
        raise SimulationError(f"{owner} does not answer {name}; look at its log")

    def get(self, name: str, parameters: Sequence[str]) -> dict[str, ParameterValue]:
        """Return parameters of a node.

        Raises:
            SimulationError: The node does not answer, or lacks one of them.
        """
        response = self.call(GetParameters, f"{name}/get_parameters", GetParameters.Request(names=list(parameters)))
        values = dict(zip(parameters, response.values))
        missing = [key for key, value in values.items() if value.type == ParameterType.PARAMETER_NOT_SET]
        if missing or not values:
            raise SimulationError(f"{name} has no parameter {', '.join(missing or parameters)}; give another node")
        return values

    def set(self, name: str, values: Mapping[str, Any]) -> None:
        """Set parameters of a node, all or none.

        Args:
            name: Of the node.
            values: By parameter; Python values, or such as `get` returns.

        Raises:
            SimulationError: The node does not answer, or refuses.
        """
        messages = [
            ParameterMessage(name=key, value=value)
            if isinstance(value, ParameterValue)
            else Parameter(key, value=value).to_parameter_msg()
            for key, value in values.items()
        ]
        request = SetParametersAtomically.Request(parameters=messages)
        result = self.call(SetParametersAtomically, f"{name}/set_parameters_atomically", request).result
        if not result.successful:
            raise SimulationError(f"{name} refused its parameters: {result.reason}")

    def close(self) -> None:
        """Free the node."""
        self._executor.shutdown()
        self.node.destroy_node()

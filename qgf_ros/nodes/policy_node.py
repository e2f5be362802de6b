"""The policy as a ROS 2 lifecycle node.

``configure`` loads the bundle and warms it up, ``activate`` starts commanding, ``deactivate`` holds the robot,
``cleanup`` frees the bundle. Observations come in through the topics of the bundle's contract; commands go out on
``command`` with the stamp of the observation they answer, or on ``~/shadow_command`` while motion is not enabled. What
cannot be answered is a hold, with its reason in ``/diagnostics`` and the log, until an observation can be answered
again. ``~/hold`` stops commanding until ``~/resume``.

Callbacks only take messages in and hand observations over; the tick itself runs on the inference thread.
"""

from __future__ import annotations

import functools
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy import float64
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.locate import locate_bundle
from qgf_ros.control.adjustment import manifest_with_limits
from qgf_ros.control.contract import RobotContract, read_robot_contract
from qgf_ros.errors import GuidanceError, QgfError
from qgf_ros.nodes import diagnostics, parameters
from qgf_ros.nodes.guards import callback, transition
from qgf_ros.nodes.hold_services import HoldServices
from qgf_ros.nodes.messages import MESSAGE_CLASSES, command_message, from_time, observation_quality, to_reading
from qgf_ros.nodes.pipeline import Level, LoadedPolicy, Pipeline
from qgf_ros.nodes.tick_loop import Figures

#: Longest wait for a subscriber to acknowledge the last hold [s].
HOLD_TIMEOUT = 0.3
#: Largest period between two checks of the age of the observation [s].
WATCH_PERIOD = 0.05
#: The same complaint is logged at most this often [s].
LOG_INTERVAL = 5.0

PolicyLoader = Callable[[Path, Sequence[str], int], LoadedPolicy]


def load_policy(bundle: Path, providers: Sequence[str], threads: int) -> LoadedPolicy:
    """Load a bundle, given by path or name, with ONNX Runtime; raises BundleError."""
    from qgf_ros.runtime.policy import Policy  # here, so that a node with another loader needs no ONNX Runtime

    return Policy.load(locate_bundle(bundle), providers=providers, threads=threads)


@dataclass
class Configured:
    """What exists from `configure` to `cleanup`; the timer only while active."""

    pipeline: Pipeline
    dry_run: bool
    commands: Any
    shadows: Any
    telemetry: Any
    subscriptions: list[Any]
    timer: Any = None


class PolicyNode(LifecycleNode):  # type: ignore[misc]
    """Runs a bundle on a robot; see the module.

    Args:
        policy_loader: Makes a policy of (bundle, providers, threads).
        options: Of `rclpy.lifecycle.LifecycleNode`, such as `context` and `parameter_overrides`.
    """

    def __init__(self, *, policy_loader: PolicyLoader = load_policy, **options: Any) -> None:
        super().__init__("policy_node", **options)
        self._load = policy_loader
        self._configured: Configured | None = None
        self._throttle = diagnostics.Throttle(LOG_INTERVAL)
        self.failure: str | None = None
        parameters.declare(self)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(1.0, self._on_diagnostics, clock=self._steady)
        self._hold_services = HoldServices(self, lambda: self._configured.pipeline.loop if self._configured else None)

    # Lifecycle

    @transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check the bundle, warm it up, create publishers and subscriptions."""
        values = parameters.values_of(self)
        startup = parameters.startup_from(values)
        policy = self._load(startup.bundle, startup.providers, startup.threads)
        manifest = policy.manifest = manifest_with_limits(policy.manifest, startup.limits)
        contract = RobotContract() if startup.contract is None else read_robot_contract(startup.contract)
        fields = contract.apply(manifest)
        settings = parameters.settings_from(values, manifest)
        parameters.check_trigger(startup.trigger, fields)
        policy.warm_up(settings.num_samples)
        pipeline = Pipeline(
            policy,
            settings,
            self,
            fields=fields,
            alignment=contract.alignment,
            by_observation=startup.trigger == "observation",
            simulated_time=bool(self.get_parameter("use_sim_time").value),
            motion=startup.motion,
        )
        self._hold_services.stop_if_held(pipeline.loop)
        self._configured = Configured(
            pipeline,
            startup.dry_run,
            None if startup.dry_run else self.create_lifecycle_publisher(JointState, "command", 10),
            self.create_lifecycle_publisher(JointState, "~/shadow_command", 10),
            self.create_lifecycle_publisher(DiagnosticArray, "~/telemetry", 10),
            self._subscribe(fields, startup.reliable),
        )
        self.get_logger().info(
            f"bundle {manifest.name}: critic {settings.critic or 'none'}, guidance weight {settings.guidance_weight:g}, "
            f"{manifest.control_rate:g} Hz, trigger {startup.trigger}"
        )
        return super().on_configure(state)

    @transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start answering observations."""
        configured = self._configured
        if configured is None:
            raise GuidanceError("the node is not configured; run configure first")
        result = super().on_activate(state)
        pipeline = configured.pipeline
        pipeline.open()
        period = 1.0 / pipeline.manifest.control_rate
        if pipeline.by_observation:
            configured.timer = self.create_timer(min(period, WATCH_PERIOD), self._on_watch, clock=self._steady)
        else:
            configured.timer = self.create_timer(period, self._on_timer)
        return result

    @transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold the robot, then stop publishing."""
        self._stop_commanding()
        return super().on_deactivate(state)

    @transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the bundle and everything made for it."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold the robot if it was commanded, and free everything."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that the node can be configured again."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def bring_up(self) -> bool:
        """Configure and activate, as `autostart` asks; return whether both succeeded."""
        success = TransitionCallbackReturn.SUCCESS
        return bool(self.trigger_configure() == success and self.trigger_activate() == success)

    def destroy_node(self) -> None:
        """Hold the robot, free everything and destroy the node."""
        self._release()
        super().destroy_node()

    def _subscribe(self, fields: Sequence[ObservationField], reliable: bool) -> list[Any]:
        return [
            self.create_subscription(
                MESSAGE_CLASSES[field.message_type],
                topic,
                functools.partial(self._on_message, topic),
                observation_quality(field, reliable),
            )
            for topic, field in {field.topic: field for field in fields if field.constant is None}.items()
        ]

    def _stop_commanding(self) -> None:
        configured = self._configured
        if configured is None or configured.timer is None:
            return
        self.destroy_timer(configured.timer)
        configured.timer = None
        configured.pipeline.close()
        if configured.commands is not None:
            configured.commands.wait_for_all_acked(Duration(seconds=HOLD_TIMEOUT))

    def _release(self) -> None:
        self._stop_commanding()
        configured, self._configured = self._configured, None
        if configured is None:
            return
        configured.pipeline.stop()
        for subscription in configured.subscriptions:
            self.destroy_subscription(subscription)
        for publisher in (configured.commands, configured.shadows, configured.telemetry):
            if publisher is not None:
                self.destroy_lifecycle_publisher(publisher)

    # Callbacks

    @callback
    def _on_message(self, topic: str, message: Any) -> None:
        if self._configured is not None:
            now = self._now()
            stamp = from_time(message.header.stamp) if hasattr(message, "header") else now
            self._configured.pipeline.receive(topic, stamp, to_reading(message), now)

    @callback
    def _on_timer(self) -> None:
        if self._configured is not None:
            self._configured.pipeline.tick(self._now())

    @callback
    def _on_watch(self) -> None:
        if self._configured is not None:
            self._configured.pipeline.watch(self._now())

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        configured = self._configured
        manifest = None if configured is None else configured.pipeline.manifest
        try:
            settings = parameters.review(changes, parameters.values_of(self), manifest)
        except QgfError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if configured is not None and settings is not None:
            configured.pipeline.loop.stage(settings, reseed=any(change.name == "seed" for change in changes))
        if configured is not None and not configured.dry_run:
            for change in (change for change in changes if change.name == "enable_motion"):
                configured.pipeline.loop.enable(change.value)
        return SetParametersResult(successful=True)

    @callback
    def _on_diagnostics(self) -> None:
        configured = self._configured
        bundle, figures = "", {}
        level, text = Level.OK, "unconfigured"
        if configured is not None:
            bundle = configured.pipeline.manifest.name
            figures = configured.pipeline.figures()
            level, text = configured.pipeline.health()
        if self.failure is not None:
            level, text = Level.ERROR, self.failure
        name = f"{self.get_fully_qualified_name()}: policy"
        self._diagnostics.publish(diagnostics.diagnostic_array(self._now(), name, bundle, level, text, figures))

    def on_fault(self, reason: str) -> None:
        """Hold for a fault of a callback."""
        if self._configured is not None:
            self._configured.pipeline.fault(reason)

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    # Outputs of the tick loop, called on the inference thread

    def send_command(self, values: NDArray[float64], stamp: int) -> None:
        """Publish a command, float64 [A], stamped `stamp` [ns]."""
        configured = self._configured
        if configured is not None and configured.commands is not None:
            configured.commands.publish(command_message(configured.pipeline.manifest.action, values, stamp))

    def send_shadow(self, values: NDArray[float64], stamp: int) -> None:
        """Publish a command that is not to move the robot, float64 [A], stamped `stamp` [ns]."""
        configured = self._configured
        if configured is not None:
            configured.shadows.publish(command_message(configured.pipeline.manifest.action, values, stamp))

    def send_telemetry(self, figures: Figures, stamp: int) -> None:
        """Publish the telemetry of one tick."""
        configured = self._configured
        if configured is not None:
            name = f"{self.get_fully_qualified_name()}: tick"
            bundle = configured.pipeline.manifest.name
            configured.telemetry.publish(diagnostics.diagnostic_array(stamp, name, bundle, Level.OK, "", figures))

    def report(self, level: int, text: str) -> None:
        """Log, but not the same complaint again and again."""
        logger = self.get_logger()
        if not self._throttle.passes(text, time.monotonic()):
            return
        # rclpy ties a severity to a line, hence one line each.
        if level >= logging.ERROR:
            logger.error(text)
        elif level >= logging.WARNING:
            logger.warning(text)
        else:
            logger.info(text)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; return the exit code."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    # rclpy's own handlers end the context at once, and the last hold could not be sent.
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # of rcl, for arguments and parameter files that it cannot read
        print(f"policy_node: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    node: PolicyNode | None = None
    executor = SingleThreadedExecutor()
    try:
        node = PolicyNode()
        executor.add_node(node)
        if node.get_parameter("autostart").value:
            node.bring_up()
        while rclpy.ok() and not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
    except (InvalidParameterValueException, InvalidParameterTypeException) as error:
        print(f"policy_node: {error}", file=sys.stderr)
        return 1
    except ExternalShutdownException:
        pass
    finally:
        if node is not None:
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())

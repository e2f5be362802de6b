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
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from qgf_ros.control.limit_overrides import check_limited, limits_text, manifest_with_limits
from qgf_ros.control.robot_contract import RobotContract, read_robot_contract
from qgf_ros.errors import GuidanceError, QgfError
from qgf_ros.launching.executables import STARTED_WRONGLY, told_to_end
from qgf_ros.loop.health import Level
from qgf_ros.loop.pipeline import LoadedPolicy, Pipeline
from qgf_ros.loop.realtime import freeze_garbage, keep_garbage_for_later
from qgf_ros.nodes import diagnostics, parameters
from qgf_ros.nodes.admission.ros_arguments import check_parameter_files, init_ros
from qgf_ros.nodes.admission.strict_parameters import StrictParameters
from qgf_ros.nodes.commander import Commander
from qgf_ros.nodes.declarations import declarations
from qgf_ros.nodes.executors import make_executor
from qgf_ros.nodes.guards import Guarding, callback, transition
from qgf_ros.nodes.heartbeat import Heartbeat
from qgf_ros.nodes.hold_services import HoldServices
from qgf_ros.nodes.messages import from_time, received, subscriptions
from qgf_ros.nodes.neighbours import DriverListener, compare_joints, crowd, rival
from qgf_ros.nodes.recommended_weight import RecommendedWeight

#: Largest period between two checks of the age of the observation [s].
WATCH_PERIOD = 0.05
#: Period between two looks for other publishers of commands, and of observations [s].
RIVAL_PERIOD = 0.1
#: The same complaint is logged at most this often [s].
LOG_INTERVAL = 5.0

PolicyLoader = Callable[[Path, Sequence[str], int, str], LoadedPolicy]


def load_policy(bundle: Path, providers: Sequence[str], threads: int, precision: str) -> LoadedPolicy:
    """Load a bundle, given by path or name, with ONNX Runtime; raises BundleError."""
    from qgf_ros.runtime.loading import load_bundle  # here, so that a node with another loader needs no ONNX Runtime

    return load_bundle(bundle, providers=providers, threads=threads, precision=precision)


@dataclass
class Configured:
    """What exists from `configure` to `cleanup`; the timer only while active."""

    pipeline: Pipeline
    commander: Commander
    #: A field that is read from a topic and how many may publish it, by the topic's full name.
    publishers: dict[str, tuple[str, int]]
    heartbeat: Heartbeat | None = None
    driver: DriverListener | None = None
    subscriptions: list[Any] = field(default_factory=list)
    timer: Any = None


class PolicyNode(StrictParameters, LifecycleNode):  # type: ignore[misc]
    """Runs a bundle on a robot; see the module.

    Args:
        policy_loader: Makes a policy of (bundle, providers, threads, precision).
        options: Of `rclpy.lifecycle.LifecycleNode`, such as `context` and `parameter_overrides`.
    """

    def __init__(self, *, policy_loader: PolicyLoader = load_policy, **options: Any) -> None:
        super().__init__("policy_node", **options)
        self._load = policy_loader
        self._configured: Configured | None = None
        self._throttle = diagnostics.Throttle(LOG_INTERVAL)
        self._guarding = Guarding(self, "on_message")
        self.failure: str | None = None
        self.take_map("limits", limits_text)
        self._weight = RecommendedWeight(self)
        if unused := self._weight.declare():
            self.report(logging.WARNING, unused)
        for name, (default, descriptor) in declarations().items():
            if not self.has_parameter(name):
                self.declare_parameter(name, default, descriptor)
        self.refuse_unknown()
        self.add_on_set_parameters_callback(self._on_parameters)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(diagnostics.DIAGNOSTICS_PERIOD, self._on_diagnostics, clock=self._steady)
        self.create_timer(RIVAL_PERIOD, self._on_graph, clock=self._steady)
        self._hold_services = HoldServices(self, lambda: self._configured.pipeline.gate if self._configured else None)

    # Lifecycle

    @transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check the bundle, warm it up, create publishers and subscriptions."""
        values = self._values()
        startup = parameters.startup_from(values)
        for refusal in startup.real_time.apply():
            self.report(logging.WARNING, refusal)
        policy = self._load(startup.bundle, startup.providers, startup.threads, startup.precision)
        manifest = policy.manifest = manifest_with_limits(policy.manifest, startup.limits)
        if startup.motion:
            check_limited(manifest, startup.unlimited)
        contract = RobotContract() if startup.contract is None else read_robot_contract(startup.contract)
        fields, outputs = contract.apply(manifest), contract.outputs(manifest)
        cameras = contract.apply_to_cameras(manifest)
        compare_joints(self, outputs)
        asked = parameters.options_from(values)
        settings = asked.resolve(manifest)
        if caveat := asked.untested(manifest):
            self.report(logging.WARNING, caveat)
        parameters.check_trigger(startup.trigger, fields)
        for samples in sorted({1, settings.num_samples}):  # degradation may come to one
            policy.warm_up(samples)
        commander = Commander(self, manifest.name, outputs, dry_run=startup.dry_run)
        pipeline = Pipeline(
            policy,
            settings,
            commander,
            fields=fields,
            cameras=cameras,
            alignment=contract.alignment,
            by_observation=startup.trigger == "observation",
            simulated_time=bool(self.get_parameter("use_sim_time").value),
            motion=startup.motion,
            previews=any(output.previews for output in outputs),
            supervision=startup.supervision,
        )
        allowed = {self.resolve_topic_name(topic): most for topic, most in contract.publishers(manifest).items()}
        configured = self._configured = Configured(pipeline, commander, allowed)
        try:
            self._hold_services.stop_if_held(pipeline.gate)
            commander.advertise()
            configured.heartbeat = Heartbeat(self, pipeline.watchdog, startup.heartbeat_rate)
            for topic, kind, quality in subscriptions(fields, cameras, startup.reliable):
                receive = functools.partial(self._on_message, topic)
                configured.subscriptions.append(self.create_subscription(kind, topic, receive, quality))
            if contract.driver_state:
                configured.driver = DriverListener(self, contract.driver_state, self._on_graph)
                self.report(logging.INFO, configured.driver.describe())
        except Exception:
            self._release()
            raise
        self._weight.bound(manifest)
        freeze_garbage()
        self.get_logger().info(
            f"bundle {manifest.name}: critic {settings.critic or 'none'}, guidance weight {settings.guidance_weight:g}, "
            f"{manifest.control_rate:g} Hz, trigger {startup.trigger}, "
            f"inference {policy.backend(settings.critic, settings.estimator)}"
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
        self._on_graph()
        pipeline.open()
        period = 1.0 / pipeline.manifest.control_rate
        if pipeline.by_observation:
            configured.timer = self.create_timer(min(period, WATCH_PERIOD), self._on_watch, clock=self._steady)
        else:
            # Steady, unless time is simulated: a system clock set back would keep the timer waiting as long.
            clock = self.get_clock() if self.get_parameter("use_sim_time").value else self._steady
            configured.timer = self.create_timer(period, self._on_timer, clock=clock)
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

    def _stop_commanding(self) -> None:
        configured = self._configured
        if configured is None or configured.timer is None:
            return
        self.destroy_timer(configured.timer)
        configured.timer = None
        configured.pipeline.close()
        configured.commander.wait_for_acknowledgement()

    def _release(self) -> None:
        self._stop_commanding()
        configured, self._configured = self._configured, None
        if configured is None:
            return
        configured.pipeline.stop()
        if configured.heartbeat is not None:
            configured.heartbeat.close()
        if configured.driver is not None:
            configured.driver.close()
        for subscription in configured.subscriptions:
            self.destroy_subscription(subscription)
        configured.commander.destroy()
        self._weight.bound(None)

    # Callbacks

    def _on_message(self, topic: str, message: Any) -> None:
        with self._guarding:
            if self._configured is not None:
                now = self._now()
                stamp = from_time(message.header.stamp) if hasattr(message, "header") else now
                self._configured.pipeline.receive(topic, stamp, received(message), now)

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
            settings = parameters.review(self._weight.with_follow_up(changes), self._values(), manifest)
        except QgfError as error:
            return SetParametersResult(successful=False, reason=str(error))
        names = {change.name for change in changes}
        if configured is not None and settings is not None:
            configured.pipeline.loop.stage(settings, reseed="seed" in names)
        self._weight.follow(changes)
        if configured is not None and not configured.commander.dry_run:
            for change in (change for change in changes if change.name == "enable_motion"):
                self._on_graph()
                try:
                    configured.pipeline.gate.enable(change.value)
                except Exception as error:  # which would end the process
                    reason = f"motion is off, but the hold could not be published: {error}"
                    return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    @callback
    def _on_graph(self) -> None:
        if (configured := self._configured) is not None:
            unready = None if configured.driver is None else configured.driver.reason()
            configured.pipeline.block(rival(self, configured.commander.publishers) or unready)
            configured.pipeline.doubt(crowd(self, configured.publishers))

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

    def _values(self) -> dict[str, Any]:
        """Return the values of all parameters, as they are or are about to be."""
        return self._weight.in_force(parameters.values_of(self))

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)

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
    """Run the node until it is `told_to_end`; return the exit code, `STARTED_WRONGLY` where it cannot begin."""
    stop = told_to_end()
    node: PolicyNode | None = None
    executor: Any = None
    keep_garbage_for_later()
    try:
        init_ros(args)  # whose own signal handlers would end the context before the last hold is sent
        node = PolicyNode()
        check_parameter_files(node.get_fully_qualified_name(), args)
        executor = make_executor(node.get_parameter("executor").value)
        executor.add_node(node)
        started = not node.get_parameter("autostart").value or node.bring_up()
        if not started and node.get_parameter("exit_on_failed_start").value:
            return STARTED_WRONGLY
        while rclpy.ok() and not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
    except QgfError as error:
        print(f"policy_node: {error}", file=sys.stderr)
        return STARTED_WRONGLY
    except ExternalShutdownException:
        pass
    finally:
        if node is not None:
            node.destroy_node()
        if executor is not None:
            executor.shutdown()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())

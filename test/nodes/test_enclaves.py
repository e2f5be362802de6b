"""The SROS 2 policy in config/ allows what the running nodes use, no less and no more."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")
pytest.importorskip("ogbench", reason="the bridge needs the sim extra")
pytest.importorskip("mcap", reason="the recorder needs the record extra")
pytest.importorskip("viser", reason="the dashboard needs the dashboard extra")

from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402

from qgf_sim.live.live_tuning import LiveTuner  # noqa: E402
from qgf_sim.live.referees import BridgeReferee, ServiceReferee  # noqa: E402
from qgf_sim.live.ros_client import RosClient  # noqa: E402
from qgf_sim.processes import reserve_domain  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = reserve_domain()
PATIENCE = 120.0  # [s], for a machine that is busy with something else
PARAMETERS = {
    "policy_node": ["bundle:=cube-single", "autostart:=true", "use_sim_time:=true", "enable_motion:=true"],
    "sim_bridge": ["autostart:=false", "camera:=true"],
    "recorder": ["bundle:=cube-single", "out:={folder}/run.mcap"],
    "dashboard": [],
}
MODULES = {
    "policy_node": ["qgf_ros.nodes.policy_node"],
    "sim_bridge": ["qgf_sim.bridge.node"],
    "recorder": ["qgf_ros.nodes.recorder"],
    "dashboard": ["qgf_sim.dashboard.process", "--port", "0"],
}

Names = dict[str, set[str]]


def allowed(enclave: str) -> Names:
    """Return the full names that the policy allows an enclave to publish, subscribe, reply and request."""
    names: Names = {"publish": set(), "subscribe": set(), "reply": set(), "request": set()}
    (profile,) = ElementTree.parse(ROOT / "config/sros2/policy.xml").findall(f".//enclave[@path='/{enclave}']//profile")
    for group in profile:
        for verb, rule in group.attrib.items():
            assert rule == "ALLOW"
            for expression in group:
                name = (expression.text or "").replace("~/", f"/{enclave}/")
                names[verb].add(name if name.startswith("/") else f"/{name}")
    if importlib.util.find_spec("tf2_msgs") is None:  # no wheel; where it is missing, so is the topic
        for topics in names.values():
            topics.discard("/tf")
    return names


@pytest.fixture(scope="module")
def observer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that looks on while all nodes run."""
    home = str(tmp_path_factory.mktemp("ros"))
    environment = {
        "ROS_DOMAIN_ID": str(DOMAIN),
        "ROS_HOME": home,
        "ROS_LOG_DIR": home,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    processes: list[subprocess.Popen[str]] = []
    context = Context()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            for name, words in MODULES.items():
                values = [word for text in PARAMETERS[name] for word in ("-p", text.format(folder=home))]
                processes.append(
                    subprocess.Popen([sys.executable, "-m", *words, "--ros-args", *values], cwd=ROOT, text=True)
                )
            rclpy.init(context=context)
            node = Node("observer", context=context, start_parameter_services=False)
            try:
                yield node
            finally:
                node.destroy_node()
        finally:
            context.try_shutdown()
            for process in processes:
                process.terminate()
            for process in processes:
                end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Wait for a process that was told to end, and kill it after `PATIENCE`."""
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def used(observer: Node, name: str) -> Names:
    """Return the full names that a running node publishes, subscribes to and serves."""
    try:
        publishers = observer.get_publisher_names_and_types_by_node(name, "/")
        subscriptions = observer.get_subscriber_names_and_types_by_node(name, "/")
        services = observer.get_service_names_and_types_by_node(name, "/")
        clients = observer.get_client_names_and_types_by_node(name, "/")
    except rclpy.node.NodeNameNonExistentError:
        return {}
    kinds = {"publish": publishers, "subscribe": subscriptions, "reply": services, "request": clients}
    return {verb: {topic for topic, _ in found} for verb, found in kinds.items()}


@pytest.mark.parametrize("name", MODULES)
def test_the_policy_allows_exactly_what_the_running_node_uses(observer: Node, name: str) -> None:
    executor = SingleThreadedExecutor(context=observer.context)
    executor.add_node(observer)
    expected, deadline = allowed(name), time.monotonic() + PATIENCE
    found = used(observer, name)
    while found != expected and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.2)  # discovery wakes it
        found = used(observer, name)
    executor.remove_node(observer)
    assert found == expected  # what was found, not another look: clients come and go


def test_the_policy_allows_exactly_what_tuning_uses(observer: Node) -> None:
    graph = RosClient("qgf_tune", observer.context)
    try:
        graph.get("policy_node", ("bundle",))
        graph.set("policy_node", {"seed": 1})
        bridge = BridgeReferee(graph, "sim_bridge")
        bridge.start(task=1, seed=1)
        LiveTuner(graph, "policy_node", bridge)
        ServiceReferee(graph, "policy_node").start(task=1, seed=1)
        bridge.close()
        graph.until(lambda: used(graph.node, "qgf_tune") == allowed("qgf_tune"), PATIENCE, "they differ")
    finally:
        graph.close()


def test_what_an_operator_may_ask_for_is_served() -> None:
    operator, node = allowed("operator"), allowed("policy_node")
    assert operator["request"] <= node["reply"] | allowed("qgf_tune")["reply"]
    assert {"/qgf_tune/start", "/qgf_tune/outcome"} <= operator["request"], "nobody else is there to ask for them"
    for name in ("recorder", "dashboard", "qgf_tune"):
        assert allowed(name)["request"] <= node["reply"] | allowed("sim_bridge")["reply"]
    assert operator["subscribe"] <= node["publish"]
    assert "/command" not in operator["publish"]

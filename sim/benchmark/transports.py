"""Which share of large pictures arrives, and how old they are then, over DDS with one setting and another."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qgf_ros.benchmark.ros_latency import distribution
from qgf_ros.errors import SimulationError
from qgf_sim.benchmark.large_messages import BEGUN
from qgf_sim.benchmark.processor import processor_time
from qgf_sim.processes import Child, environment, private_graph, stop_all

#: How long processes may take to begin and to end, how long they have to find each other then, and how long the last pictures
#: have to arrive [s].
PATIENCE, MEETING, LINGERING = 60.0, 3.0, 0.5
#: Of what is sent every second [Hz].
RATE = 30
_PROFILES = """<?xml version="1.0" encoding="UTF-8" ?>
<profiles xmlns="http://www.eprosima.com">
  <transport_descriptors>{transports}</transport_descriptors>
  <participant profile_name="large" is_default_profile="true">
    <rtps><userTransports>{ids}</userTransports><useBuiltinTransports>false</useBuiltinTransports>{buffers}</rtps>
  </participant>
</profiles>
"""
_SEGMENT = (
    "<transport_descriptor><transport_id>shared</transport_id><type>SHM</type><segment_size>67108864</segment_size>"
    "</transport_descriptor>"
)
_UDP = "<transport_descriptor><transport_id>udp</transport_id><type>UDPv4</type>{more}</transport_descriptor>"
_BUFFERS = "<sendBufferSize>8388608</sendBufferSize><receiveBufferSize>8388608</receiveBufferSize>"


def _ids(*names: str) -> str:
    return "".join(f"<transport_id>{name}</transport_id>" for name in names)


@dataclass(frozen=True)
class Transport:
    """One way by which pictures go from process to process.

    Attributes:
        name: What is written in the table.
        pictures: raw or jpeg.
        reliability: Of both sides.
        variables: Environment variables of both.
        profiles: An XML of Fast DDS; nothing for none.
        package: Python package without which it is left out.
    """

    name: str
    pictures: str = "raw"
    reliability: str = "best_effort"
    variables: Mapping[str, str] = field(default_factory=dict)
    profiles: str = ""
    package: str = "rclpy"

    @property
    def there(self) -> bool:
        """Whether what it needs is installed."""
        prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
        in_ros = any((Path(prefix) / "share" / self.package).is_dir() for prefix in prefixes if prefix)
        return in_ros or importlib.util.find_spec(self.package) is not None


_DEFAULT = {"FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"}
_UDP_ONLY = {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
_XML_SHARED = _PROFILES.format(transports=_SEGMENT + _UDP.format(more=""), ids=_ids("shared", "udp"), buffers="")
_XML_BUFFERS = _PROFILES.format(transports=_UDP.format(more=_BUFFERS), ids=_ids("udp"), buffers="")
#: What is compared.
TRANSPORTS = (
    Transport("raw, best effort", variables=_DEFAULT),
    Transport("raw, reliable", reliability="reliable", variables=_DEFAULT),
    Transport("raw, best effort, shared memory 64 MiB", profiles=_XML_SHARED),
    Transport("raw, reliable, shared memory 64 MiB", reliability="reliable", profiles=_XML_SHARED),
    Transport("raw, best effort, UDP", variables=_UDP_ONLY),
    Transport("raw, reliable, UDP", reliability="reliable", variables=_UDP_ONLY),
    Transport("raw, best effort, UDP, buffers 8 MiB", profiles=_XML_BUFFERS),
    Transport("raw, best effort, LARGE_DATA", variables={"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}),
    Transport(
        "raw, best effort, Cyclone DDS",
        variables={"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
        package="rmw_cyclonedds_cpp",
    ),
    Transport("JPEG, best effort", pictures="jpeg", variables=_DEFAULT),
    Transport("JPEG, best effort, UDP", pictures="jpeg", variables=_UDP_ONLY),
)


def measure_transports(seconds: float, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Send the pictures of two cameras at 30 Hz by each of `TRANSPORTS`, one after the other.

    Returns:
        A record each: ``name``, ``there`` and, where what it needs is installed, ``sent``, ``share`` that arrived, ``age_ms``
        (p50, p90, p99, max) and the cores that ``sender`` and ``taker`` kept busy.

    Raises:
        SimulationError: A process does not start or has ended.
    """
    records = []
    for transport in TRANSPORTS:
        record: dict[str, Any] = {"name": transport.name, "there": transport.there}
        if transport.there:
            record |= measure_transport(transport, seconds)
        records.append(record)
        progress(transport.name)
    return records


def measure_transport(transport: Transport, seconds: float) -> dict[str, Any]:
    """Send pictures by one transport; see `measure_transports`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph = {**private_graph(folder), **transport.variables}
        if transport.profiles:
            graph.pop("FASTDDS_BUILTIN_TRANSPORTS")
            profiles = folder / "profiles.xml"
            profiles.write_text(transport.profiles)
            graph |= dict.fromkeys(("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"), str(profiles))
        words = [transport.pictures, transport.reliability, str(RATE)]
        module = "qgf_sim.benchmark.large_messages"
        children: list[Child] = []
        try:
            with environment(graph):
                for what in ("take", "send"):
                    children.append(Child(what, module, [what, *words], folder))
            taker, sender = children
            _wait(lambda: all(BEGUN in child.last_words() or child.exit_code is not None for child in children))
            time.sleep(MEETING)
            begin, before = time.time_ns(), [processor_time(child.pid) for child in children]
            time.sleep(seconds)
            end, after = time.time_ns(), [processor_time(child.pid) for child in children]
            time.sleep(LINGERING)
            for child in children:
                child.signal_group(signal.SIGTERM)
            _wait(lambda: all(child.exit_code is not None for child in children))
        finally:
            stop_all(children)
        stamps, arrived = _said(sender)["stamps"], _said(taker)["arrived"]
    sent = [stamp for stamp in stamps if begin <= stamp < end]
    ages = [age for stamp, age in arrived if begin <= stamp < end]
    cores = [(one - other) / seconds for one, other in zip(after, before)]
    return {
        "sent": len(sent),
        "rate": len(sent) / seconds,
        "share": len(ages) / len(sent) if sent else 0.0,
        "age_ms": distribution([1e-9 * age for age in ages]),
        "taker": cores[0],
        "sender": cores[1],
    }


def _wait(until: Callable[[], bool]) -> None:
    """Wait for something, but not for ever."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not until():
        time.sleep(0.05)


def _said(child: Child) -> dict[str, Any]:
    """Return what a process said at its end; raises SimulationError where it said nothing."""
    try:
        said: dict[str, Any] = json.loads(child.last_words())
    except ValueError as error:
        raise SimulationError(f"the process that should {child.name} pictures ended: {child.last_words()}") from error
    return said

"""The process `dashboard`: a web page for a policy node, on a robot or against the simulation bridge.

Its node listens and asks as any other; what it does with its time is nobody else's. Run it in the namespace of the
policy node, with ``--ros-args -r __ns:=/NAME``.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.utilities import remove_ros_args

from qgf_ros.errors import QgfError
from qgf_ros.launching.executables import told_to_end
from qgf_ros.launching.extras import missing
from qgf_ros.nodes.admission.ros_arguments import init_ros
from qgf_ros.nodes.admission.strict_parameters import StrictNode

#: Longest wait for a message [s]. What a person asks for waits for it, and for what is being drawn.
LONGEST_WAIT = 0.02


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until it is `told_to_end`, and then end with exit code 0."""
    given = list(sys.argv if arguments is None else ["dashboard", *arguments])
    stop = told_to_end()
    try:
        init_ros(given)
        options = _parser().parse_args(remove_ros_args(given)[1:])
        _serve(options.host, options.port, stop)
    except QgfError as error:
        get_logger("dashboard").fatal(str(error))
        return 1
    except ImportError as error:
        if (sentence := missing(error)) is None:
            raise
        get_logger("dashboard").fatal(sentence)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dashboard", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s, this machine only)")
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (%(default)s)")
    return parser


def _serve(host: str, port: int, stop: threading.Event) -> None:
    from qgf_sim.dashboard.page import Page
    from qgf_sim.dashboard.ros_side import RosSide
    from qgf_sim.dashboard.server import PageServer, is_loopback
    from qgf_sim.dashboard.state import PageState

    node = StrictNode("dashboard")
    node.refuse_unknown()
    server = PageServer(host, port)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    state = PageState()
    page = Page(server, state, RosSide(node, state))
    try:
        node.get_logger().info(f"the dashboard is at {server.url}")
        if not is_loopback(host):
            node.get_logger().warning(f"whoever reaches {host} can steer the robot: the page asks nobody who they are")
        while not stop.is_set():
            executor.spin_once(timeout_sec=LONGEST_WAIT)
            page.refresh()
    finally:
        page.close()
        executor.shutdown()
        node.destroy_node()


if __name__ == "__main__":
    sys.exit(main())

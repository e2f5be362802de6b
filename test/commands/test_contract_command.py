"""`qgf contract`: a template to edit, and a verdict that scripts can read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qgf_ros.bundle.store import load_manifest
from qgf_ros.cli import main
from qgf_ros.control.robot_contract import read_robot_contract
from qgf_sim.processes import reserve_domain


def test_the_template_of_a_bundle_changes_nothing(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["contract", "template", "--bundle", str(tiny_bundle)]) == 0
    path = tmp_path / "robot.yaml"
    assert main(["contract", "template", "--bundle", str(tiny_bundle), "--out", str(path)]) == 0
    assert path.read_text() == capsys.readouterr().out
    manifest = load_manifest(tiny_bundle)
    contract = read_robot_contract(path)
    assert contract.apply(manifest) == manifest.observation
    (output,) = contract.outputs(manifest)
    assert (output.source.type, output.topic, output.fields) == ("joint_state", "command", manifest.action)
    assert main(["contract", "template", "--bundle", str(tiny_bundle), "--out", str(path)]) == 2
    assert "robot.yaml exists; give --force to replace it, or choose another --out" in capsys.readouterr().err


def test_the_template_of_a_bundle_on_a_robot_is_a_contract_for_both(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "robot.yaml"
    arguments = ["contract", "template", "--bundle", str(tiny_bundle), "--robot"]
    assert main([*arguments, "ur5e", "--out", str(path)]) == 0
    outputs = read_robot_contract(path).outputs(load_manifest(tiny_bundle))
    assert [output.topic for output in outputs] == ["/servo_node/delta_twist_cmds", "command"]
    assert main([*arguments, "puma"]) == 2
    assert (
        "qgf: robot 'puma' was given, but no profile has that name; give the path of one, or one of these names: "
        in (capsys.readouterr().err)
    )


def test_a_contract_of_another_bundle_is_one_sentence(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rclpy", reason="listening to topics needs the ros extra or a ROS 2 installation")
    path = tmp_path / "robot.yaml"
    path.write_text("fields: {leg: {topic: legs}}")
    assert main(["contract", "check", "--bundle", str(tiny_bundle), "--contract", str(path)]) == 2
    assert "qgf: field leg is in the contract, but bundle tiny has joint_position" in capsys.readouterr().err


def test_a_graph_that_serves_nothing_gives_a_red_line_per_field_and_exit_code_1(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    pytest.importorskip("rclpy", reason="listening to topics needs the ros extra or a ROS 2 installation")
    command = [
        sys.executable,
        "-m",
        "qgf_ros.cli",
        "contract",
        "check",
        "--bundle",
        str(tiny_bundle),
        "--duration",
        "0.5",
        "--contract",
        str(tmp_path / "robot.yaml"),
    ]
    (tmp_path / "robot.yaml").write_text("driver_state: [{topic: /driver/running, ready: [true]}]")
    variables = {
        "ROS_DOMAIN_ID": str(reserve_domain()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(tmp_path),
        "COLUMNS": "200",
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **variables})
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    fields = load_manifest(tiny_bundle).observation
    assert all(field.name in done.stdout for field in fields)
    assert done.stdout.count("nobody publishes") == len(fields)
    assert done.stdout.count("nobody listens yet") == 1
    assert "states of the driver" in done.stdout
    assert "driver state /driver/running: nothing received yet, expected True" in done.stdout
    assert all(f"{action.name} [{action.unit}]" in done.stdout for action in load_manifest(tiny_bundle).action)

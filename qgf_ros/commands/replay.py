"""`qgf replay`: a recorded run answered again by a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from qgf_ros.commands.show.arguments import override_arguments
from qgf_ros.control.run_options import REPLAYABLE


def replay(
    recording: Path,
    /,
    bundle: Path,
    *,
    contract: Path | None = None,
    threads: int = 1,
    precision: Literal["fp32", "int8", "fp16"] = "fp32",
    json: Path | None = None,
    force: bool = False,
    overrides: Annotated[Mapping[str, Any], override_arguments(REPLAYABLE)],
) -> None:
    """Answer every recorded tick again and say which commands differ, by how much and why.

    Args:
        recording: MCAP file of a run of the policy node.
        bundle: Folder or name of the bundle to answer with.
        contract: Robot contract (YAML) that the policy node used.
        threads: Threads of each ONNX Runtime operator.
        precision: That the node ran in.
        json: Where to write the numbers.
        force: Replace numbers that are there.
        overrides: Options in place of the recorded ones.
    """
    from rich.console import Console

    from qgf_ros.bundle.locate import locate_bundle
    from qgf_ros.control.robot_contract import RobotContract, read_robot_contract
    from qgf_ros.files.destination import check_destination
    from qgf_ros.recording.recording import Recording
    from qgf_ros.recording.replay import replay as answer
    from qgf_ros.reports.origin import origin
    from qgf_ros.runtime.policy import Policy

    check_destination(json, force=force, option="--json")
    folder = locate_bundle(bundle)
    policy = Policy.load(folder, threads=threads, precision=precision)
    robot = RobotContract() if contract is None else read_robot_contract(contract)
    outcome = answer(
        Recording.open(recording),
        policy,
        robot.apply(policy.manifest),
        robot.alignment,
        overrides,
        robot.apply_to_cameras(policy.manifest),
    ).record()
    console = Console()
    _print(console, recording, outcome)
    if json is not None:
        from qgf_ros.reports.numbers import write_json

        write_json(json, {"recording": recording.name, **outcome, **origin(folder)})


def _print(console: Any, recording: Path, outcome: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    def say(text: str) -> None:
        console.print(Text(text), soft_wrap=True)

    say(f"{recording}: {outcome['ticks']} ticks, {outcome['identical']} identical, {outcome['different']} different")
    if outcome["dimensions"]:
        table = Table(title="distance of the commands", title_justify="left")
        for heading in ("action", "unit", "different", "mean", "p99", "largest"):
            table.add_column(heading, justify="left" if heading in ("action", "unit") else "right")
        for name, numbers in outcome["dimensions"].items():
            distances = (f"{numbers[key]:.3g}" for key in ("mean", "p99", "largest"))
            table.add_row(name, numbers["unit"], str(numbers["different"]), *distances)
        console.print(table)
    for heading, counts in (("different", outcome["causes"]), ("not replayed", outcome["not_replayed"])):
        for reason, count in counts.items():
            say(f"{count} {heading}: {reason}")
    for remark in outcome["remarks"]:
        say(f"note: {remark}")

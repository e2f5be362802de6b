"""`qgf contract`: a robot's own topics for the observation fields and the commands of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console

    from qgf_ros.bundle.cameras import CameraField
    from qgf_ros.bundle.expectation import Expected
    from qgf_ros.bundle.fields import ObservationField
    from qgf_ros.control.outputs import Output
    from qgf_ros.nodes.contract_check import Heard
    from qgf_ros.nodes.neighbours import HeardState


@dataclass(frozen=True)
class Check:
    """Listen to the live graph and say, field by field, whether it serves a bundle, and who listens to which output.

    Beside each value stands between what it was in the training data, where the bundle knows.

    Of a camera it says size, encoding and frame, too, and `pictures` shows a person what the policy would see of it.

    Exit code 1 if a field or a camera is not served, somebody listens to an output for another type, a controller has other
    joints, or the driver does not say that the robot is ready.

    Attributes:
        bundle: Folder or name of the bundle.
        contract: Robot contract, a YAML file; without it the bundle's own topics are looked for.
        duration: How long to listen [s].
        reliable: Ask for reliable delivery where a field does not say, as with observation_reliability on the node.
        use_sim_time: Take the time from /clock.
        namespace: Namespace of the topics.
        limits: Limits of the action that differ from the bundle's, as for the parameter of the node.
        pictures: Folder to write a PNG of each camera to, as the policy would see it; on its left what it saw in training,
            where the bundle has that.
    """

    bundle: Path
    contract: Path | None = None
    duration: float = 5.0
    reliable: bool = False
    use_sim_time: bool = False
    namespace: str = ""
    limits: str = ""
    pictures: Path | None = None

    def run(self, console: Console) -> None:
        """Run the check."""
        from qgf_ros.bundle.expectation import PLAUSIBLE_RANGE, expected_fields
        from qgf_ros.bundle.locate import locate_bundle
        from qgf_ros.bundle.store import load_manifest
        from qgf_ros.control.limit_overrides import manifest_with_limits
        from qgf_ros.control.robot_contract import RobotContract, read_robot_contract
        from qgf_ros.errors import ContractError
        from qgf_ros.files.destination import check_folder
        from qgf_ros.nodes.contract_check import judge, judge_output, listen
        from qgf_ros.nodes.neighbours import judge_joints, unverified

        if not 0.0 < self.duration <= 3600.0:
            raise ContractError(f"duration {self.duration} was given; it must be above 0 and at most 3600 s")
        if self.pictures is not None:
            check_folder(self.pictures, "--pictures")
        manifest = manifest_with_limits(load_manifest(locate_bundle(self.bundle)), self.limits)
        contract = RobotContract() if self.contract is None else read_robot_contract(self.contract)
        fields, outputs = contract.apply(manifest), contract.outputs(manifest)
        cameras = contract.apply_to_cameras(manifest)
        with console.status(f"listening for {self.duration:g} s"):
            by_topic, listeners, joints, states, end = listen(
                fields,
                self.duration,
                outputs,
                cameras=cameras,
                states=contract.driver_state,
                reliable=self.reliable,
                use_sim_time=self.use_sim_time,
                namespace=self.namespace,
            )
        heard = {field.name: None if field.constant is not None else by_topic[field.source] for field in fields}
        allowed = contract.publishers(manifest)
        expected = expected_fields(manifest, fields, PLAUSIBLE_RANGE)
        complaints = {
            one.served.name: judge(
                one.served, heard[one.served.name], end, allowed.get(one.served.topic, ("", None))[1], one
            )
            for one in expected
        }
        console.print(_table(fields, heard, complaints, f"{manifest.name}, {self.duration:g} s"))
        console.print(_value_table(expected, heard))
        blind = self._look(console, cameras, by_topic, allowed, end) if cameras else False
        mismatches = {output.topic: judge_output(output, listeners[output.topic]) for output in outputs}
        console.print(_output_table(outputs, listeners, mismatches))
        if states:
            console.print(_state_table(states))
        differences = [judge_joints(output, joints[output.topic]) for output in outputs if output.topic in joints]
        for output in outputs:
            if doubt := unverified(output, joints.get(output.topic)):
                console.print(doubt, style="yellow", markup=False)
        for difference in filter(None, differences):
            console.print(difference, style="red", markup=False)
        if blind or any(
            (*complaints.values(), *mismatches.values(), *differences, *(state.complaint for state in states))
        ):
            raise SystemExit(1)

    def _look(
        self,
        console: Console,
        cameras: dict[str, CameraField],
        by_topic: dict[str, Heard],
        allowed: dict[str, tuple[str, int]],
        end: float,
    ) -> bool:
        """Print the verdict on each camera, and write its picture; return whether one is not served."""
        from qgf_ros.bundle.locate import locate_bundle
        from qgf_ros.bundle.store import read_bundle
        from qgf_ros.commands.show.sight import camera_verdicts
        from qgf_ros.nodes.cameras.camera_check import delivered, judge_camera, write_pictures

        judged = {
            name: judge_camera(name, camera, by_topic[camera.topic], end, allowed[camera.topic][1])
            for name, camera in cameras.items()
        }
        heard = {name: by_topic[camera.topic] for name, camera in cameras.items()}
        rows = [
            (
                name,
                camera.topic,
                *delivered(heard[name].picture),
                heard[name].rate,
                _oldest(heard[name]),
                judged[name][0],
            )
            for name, camera in cameras.items()
        ]
        console.print(camera_verdicts(rows))
        if self.pictures is not None:
            seen = {name: pixels for name, (_, pixels) in judged.items() if pixels is not None}
            for path in write_pictures(self.pictures, seen, read_bundle(locate_bundle(self.bundle))[1]):
                console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
        return any(complaint is not None for complaint, _ in judged.values())


@dataclass(frozen=True)
class Template:
    """Print a robot contract that says what the bundle says, or what it is on a robot that is known, to be edited.

    Attributes:
        bundle: Folder or name of the bundle.
        robot: Name of a robot that has a profile, such as ur5e, or the path of a profile.
        out: File to write instead.
        force: Replace a file that is there.
    """

    bundle: Path
    robot: str | None = None
    out: Path | None = None
    force: bool = False

    def run(self, console: Console) -> None:
        """Print or write it."""
        from qgf_ros.bundle.locate import locate_bundle
        from qgf_ros.bundle.store import load_manifest
        from qgf_ros.control.profiles.profile_template import profile_template
        from qgf_ros.control.profiles.robot_profile import read_profile
        from qgf_ros.control.robot_contract import template
        from qgf_ros.errors import ContractError
        from qgf_ros.files.destination import check_destination, write_text

        check_destination(self.out, force=self.force)
        manifest = load_manifest(locate_bundle(self.bundle))
        text = template(manifest) if self.robot is None else profile_template(manifest, read_profile(self.robot))
        if self.out is None:
            console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
            return
        write_text(self.out, text, error=ContractError)


Action = Union[  # noqa: UP007  (tyro reads the names off the parts)
    Annotated[Check, tyro.conf.subcommand("check", prefix_name=False)],
    Annotated[Template, tyro.conf.subcommand("template", prefix_name=False)],
]


def contract(action: Annotated[Action, tyro.conf.arg(name="")]) -> None:
    """Map a robot's topics, joint names and units to a bundle, and check them on the live graph.

    Args:
        action: What to do.
    """
    from rich.console import Console

    action.run(Console())


def _table(
    fields: tuple[ObservationField, ...], heard: dict[str, Heard | None], complaints: dict[str, str | None], title: str
) -> Any:
    from rich.table import Table

    from qgf_ros.commands.show.display import number

    table = Table(title=title, title_justify="left")
    for heading in ("field", "topic", "type", "rate", "oldest", "verdict"):
        table.add_column(heading, justify="right" if heading in ("rate", "oldest") else "left", overflow="fold")
    for field in fields:
        seen, complaint = heard[field.name], complaints[field.name]
        verdict = "[green]ok[/]" if complaint is None else f"[red]{complaint.replace('[', chr(92) + '[')}[/]"
        if seen is None:
            table.add_row(field.name, "constant", "", "", "", verdict)
            continue
        table.add_row(
            field.name,
            field.source,
            ", ".join(seen.types) or "-",
            f"{number(seen.rate, 1)} Hz",
            f"{number(_oldest(seen), 1)} ms",
            verdict,
        )
    return table


def _oldest(heard: Heard) -> float | None:
    """Return the largest age of a message on its arrival [ms], below 0 of one from the future; None where none has an age."""
    return 1e3 * max(heard.ages, key=abs) if heard.ages else None


def _value_table(expected: tuple[Expected, ...], heard: dict[str, Heard | None]) -> Any:
    from rich.table import Table

    from qgf_ros.bundle.demonstrations import component_name
    from qgf_ros.bundle.expectation import UNKNOWN
    from qgf_ros.control.extraction import instant
    from qgf_ros.errors import ObservationError

    known = any(one.known is not None for one in expected)
    table = Table(title="values" if known else f"values; training data {UNKNOWN}", title_justify="left")
    for heading in ("field", "component", "value", "in the training data", "outside"):
        table.add_column(heading, justify="left" if heading in ("field", "component") else "right", overflow="fold")
    for one in expected:
        seen = heard[one.served.name]
        try:
            values = None if seen is None or seen.newest is None else instant(one.served, seen.newest)
        except ObservationError:
            values = None  # as its verdict says
        if values is None:
            continue
        given = one.in_unit(values)
        outside = dict(one.outside(given))
        for i, value in enumerate(given.tolist()):
            name = component_name(one.own, i)
            reached = "" if one.known is None else f"{one.known.minimum[i]:.4g} .. {one.known.maximum[i]:.4g}"
            beyond = f"[yellow]{outside[name]:.3g} {one.own.unit}[/]" if name in outside else ""
            table.add_row(one.own.name, name, f"{value:.4g} {one.own.unit}", reached, beyond)
    return table


def _output_table(
    outputs: tuple[Output, ...], listeners: dict[str, list[str]], mismatches: dict[str, str | None]
) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="outputs", title_justify="left")
    for heading in ("topic", "type", "action", "sent as", "listeners"):
        table.add_column(heading, overflow="fold")
    for output in outputs:
        count = len(listeners[output.topic])
        verdict = f"[red]{mismatches[output.topic]}[/]" if mismatches[output.topic] else f"[green]{count}[/]"
        table.add_row(
            output.topic,
            output.source.type,
            "\n".join(field.name for field in output.fields),
            Text("\n".join(output.describe())),  # whose brackets are no markup
            verdict if count else "[yellow]nobody listens yet[/]",
        )
    return table


def _state_table(states: list[HeardState]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="states of the driver", title_justify="left")
    for heading in ("topic", "field", "value", "ready", "verdict"):
        table.add_column(heading, overflow="fold")
    for state, value, complaint in states:
        verdict = Text("ok", "green") if complaint is None else Text(complaint, "red")
        table.add_row(state.topic, state.field, "-" if value is None else str(value), state.expected, verdict)
    return table

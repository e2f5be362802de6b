"""`qgf dataset`: training data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from collections.abc import Sequence

    from rich.console import Console

    from qgf_ros.recording.recording import Recording
    from qgf_ros.recording.rows.source import Source
    from qgf_ros.recording.rows.trajectories import Conversion


def dataset(
    action: Literal["from-bag", "describe"],
    files: tuple[Path, ...],
    /,
    out: Path | None = None,
    bundle: Path | None = None,
    contract: Path | None = None,
    reward: str = "success",
    command: str = "command",
    episode: str = "sim_bridge/episode",
    command_names: tuple[str, ...] = (),
    outcomes: Path | None = None,
    every_episode_succeeds: bool = False,
    force: bool = False,
) -> None:
    """Make a data set for qgf train of recordings, or tell a bundle what its data set was like.

    from-bag makes a data set of recordings, qgf's own or rosbag2's in MCAP files; with cameras, the same command goes on after
    Ctrl-C with the recordings that are left. describe puts the quantiles of a data set's observations, and the mean of its
    quaternions, into the manifest of --bundle, and the first picture of each camera beside it, as qgf train and export do by
    themselves; the bundle's other files stay as they are.

    Args:
        action: What to do.
        files: MCAP files and folders of rosbag2, or for describe the data set, FILE.npz.
        out: Data set to write, FILE.npz.
        bundle: Bundle whose contract says what an observation and an action are; for describe, the one to tell.
        contract: Without --bundle, JSON with observation, action and control_rate as in a manifest, cameras where it sees, and
            the alignment of the robot contract to come; with it, the robot contract (YAML) that the policy node used.
        reward: success, for 0 at the command that solved the task and -1 elsewhere, or TOPIC:FIELD.
        command: Topic of the commands, in the units of the action contract: JointState or a JointTrajectory of one point
            by name, Float64MultiArray in the contract's order, TwistStamped.
        episode: Topic that ends each episode, a String of JSON with the key success.
        command_names: Names of the action's components on that topic, in their order, such as linear.x angular.z; those of
            the contract by default.
        outcomes: Outcomes of the episodes of recordings that hold none, as lines such as demo_0.mcap,true below a first
            line recording,success.
        every_episode_succeeds: Whether every episode of these recordings succeeded, as in demonstrations; one without
            messages on --episode is one episode.
        force: Replace a data set that is there.
    """
    if action == "describe":
        _describe(files, bundle)
        return
    from rich.console import Console
    from rich.text import Text

    from qgf_ros.bundle.text import one_line
    from qgf_ros.errors import RecordingError
    from qgf_ros.files.destination import check_destination
    from qgf_ros.recording.bags import open_recordings
    from qgf_ros.recording.rows.outcomes import Outcomes, Reward

    if not files or out is None:
        missing = "recording was given; give one or more MCAP files" if not files else "--out was given; give FILE.npz"
        raise RecordingError(f"no {missing}")
    if out.suffix != ".npz":
        raise RecordingError(f"--out {out} was given, expected the name of a file, FILE.npz")
    check_destination(out, force=force)
    source = _source(
        bundle,
        contract,
        reward=Reward.parse(reward),
        command=command,
        episode=episode,
        command_names=command_names,
        outcomes=Outcomes.of(every_episode_succeeds, outcomes),
    )
    opened = open_recordings(files)
    console = Console()
    conversion = _converted(opened, source, out, console)
    rows = sum(len(trajectory.actions) for trajectory in conversion.trajectories)
    found = conversion.trajectories
    solved = sum(trajectory.solved for trajectory in found)
    lines = list(conversion.damage)
    lines += [
        f"note: {', '.join(file.name for file in recording.files)} are read as one recording"
        for recording in opened
        if len(recording.files) > 1
    ]
    lines += [f"note: {note}" for note in conversion.notes]
    lines += [f"left out: {count} {reason}" for reason, count in conversion.left_out.items() if count]
    if conversion.inferred:
        lines.append("note: which readings a command answers is partly inferred from times of arrival")
    if conversion.clipped:
        lines.append(
            f"note: {conversion.clipped} commands lie outside the contract's scale and offset, and were cut to them"
        )
    lines.append(f"{out}: {rows} rows in {len(found)} trajectories, {solved} solved")
    for line in lines:
        console.print(Text(one_line(line)), soft_wrap=True)


def _converted(opened: Sequence[Recording], source: Source, out: Path, console: Console) -> Conversion:
    """Write the data set of recordings, and return what it was made of.

    With cameras it takes long: a bar shows how far it is, and recordings that are finished are kept beside `out` until it is
    written, so that the same command goes on with them.
    """
    from qgf_ros.commands.show.display import progress_bar
    from qgf_ros.commands.show.interruptions import interruptions
    from qgf_ros.errors import QgfError
    from qgf_ros.recording.rows.parts import Parts
    from qgf_ros.recording.rows.to_dataset import convert

    if not source.cameras:
        conversion = convert(opened, source)
        _write(conversion, source, out)
        return conversion
    parts = Parts(out.with_name(out.name + ".partial"), source, source.cameras)
    parts.keep_only(opened)

    def kept() -> str:
        done = parts.finished(opened)
        many = f"{done} of {len(opened)} recordings are kept in {parts.folder}"
        return f"{many}, the same command goes on from there" if done else "no recording was finished"

    try:
        with interruptions() as request, progress_bar(console, "commands") as bar:
            row = bar.add_task("pictures to rows", total=sum(map(source.commands_in, opened)))

            def tell(amount: float) -> None:
                bar.advance(row, amount)
                request.grant()

            conversion = convert(opened, source, parts, tell)
        _write(conversion, source, out)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {kept()}") from None
    except QgfError as error:
        if parts.finished(opened):
            raise type(error)(f"{error}; {kept()}") from error
        raise
    parts.clear()
    return conversion


def _write(conversion: Conversion, source: Source, out: Path) -> None:
    """Check a data set, and write it."""
    from qgf_ros.learning.data.dataset import NORMALISATION_KEY, Dataset, check_dataset, stored_normalisation
    from qgf_ros.recording.rows.data_file import Pieces, write_data_set

    arrays = conversion.arrays()
    extras = {name: arrays[name] for name in ("rewards", "masks")}
    made = Dataset(arrays["observations"], arrays["actions"], arrays["terminals"], extras)
    check_dataset(made, str(out), bounded=not source.unscaled)
    rows = len(arrays["actions"])
    pictures = {
        f"images/{name}": Pieces((rows, *camera.size, 3), conversion.seen(name))
        for name, camera in source.cameras.items()
    }
    write_data_set(out, {**arrays, NORMALISATION_KEY: stored_normalisation(source.action, source.unscaled)}, pictures)


def _describe(files: tuple[Path, ...], bundle: Path | None) -> None:
    """Put into a bundle what its training data were like."""
    from rich.console import Console

    from qgf_ros.bundle.locate import locate_bundle
    from qgf_ros.bundle.store import read_bundle, update_bundle, update_manifest
    from qgf_ros.errors import DatasetError
    from qgf_ros.learning.data.contract import Contract
    from qgf_ros.learning.data.dataset import load_dataset
    from qgf_ros.learning.data.normalisation import as_seen
    from qgf_ros.learning.data.reference_pictures import reference_pictures

    if len(files) != 1 or bundle is None:
        raise DatasetError(
            f"{len(files)} data sets and bundle {bundle} were given; give one FILE.npz and --bundle BUNDLE"
        )
    folder = locate_bundle(bundle)
    manifest, content = read_bundle(folder)
    data = as_seen(load_dataset(files[0], bounded=False), manifest, str(files[0]))
    contract = Contract(manifest.observation, manifest.action, manifest.control_rate)
    described, demonstrations = contract.described(data, files[0].name)
    new = manifest.model_copy(update={"observation": described.observation, "demonstrations": demonstrations})
    if data.pictures is None:
        update_manifest(folder, new)
    else:
        update_bundle(folder, new, {**content, **reference_pictures(data.pictures)})
    console = Console()
    for note in data.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    line = f"{folder}: quantiles of {len(demonstrations.fields)} fields over {demonstrations.rows} observations"
    if data.pictures is not None:
        line += f", and the first picture of {', '.join(manifest.cameras)}"
    console.print(line, highlight=False, soft_wrap=True)


def _source(bundle: Path | None, contract: Path | None, **rest: Any) -> Source:
    from qgf_ros.bundle.locate import locate_bundle
    from qgf_ros.bundle.store import load_manifest
    from qgf_ros.control.robot_contract import RobotContract, read_robot_contract
    from qgf_ros.errors import RecordingError
    from qgf_ros.learning.data.contract import read_contract
    from qgf_ros.recording.rows.source import Source

    if bundle is not None:
        manifest = load_manifest(locate_bundle(bundle))
        robot = RobotContract() if contract is None else read_robot_contract(contract)
        fields = robot.apply(manifest)
        converted = {output.topic for output in robot.outputs(manifest) if output.converts}
        rest |= {"alignment": robot.alignment, "converted": converted, "cameras": robot.apply_to_cameras(manifest)}
        return Source(fields, manifest.action, manifest.control_rate, **rest)
    if contract is None:
        raise RecordingError("neither --bundle nor --contract was given; one must say what an observation is")
    plain = read_contract(contract)
    return Source(
        plain.observation,
        plain.action,
        plain.control_rate,
        unscaled=plain.action_from_data,
        alignment=plain.alignment,
        cameras=plain.cameras,
        **rest,
    )

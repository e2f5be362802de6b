"""`qgf dataset`: training data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from qgf_ros.recording.rows.to_dataset import Source


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

    from-bag makes a data set of recordings, qgf's own or rosbag2's in MCAP files. describe puts the quantiles of a data
    set's observations, and the mean of its quaternions, into the manifest of --bundle, as qgf train does by itself; the
    bundle's other files stay as they are.

    Args:
        action: What to do.
        files: MCAP files and folders of rosbag2, or for describe the data set, FILE.npz.
        out: Data set to write, FILE.npz.
        bundle: Bundle whose contract says what an observation and an action are; for describe, the one to tell.
        contract: Without --bundle, JSON with observation, action and control_rate as in a manifest; with it, the robot
            contract (YAML) that the policy node used.
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
    from qgf_ros.learning.data.dataset import NORMALISATION_KEY, Dataset, check_dataset, stored_normalisation
    from qgf_ros.recording.bags import open_recordings
    from qgf_ros.recording.rows.outcomes import Outcomes, Reward
    from qgf_ros.recording.rows.to_dataset import convert

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
    conversion = convert(opened, source)
    arrays = conversion.arrays()
    extras = {name: arrays[name] for name in ("rewards", "masks")}
    made = Dataset(arrays["observations"], arrays["actions"], arrays["terminals"], extras)
    check_dataset(made, str(out), bounded=not source.unscaled)
    _write(out, {**arrays, NORMALISATION_KEY: stored_normalisation(source.action, source.unscaled)})
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
    lines.append(f"{out}: {len(arrays['actions'])} rows in {len(found)} trajectories, {solved} solved")
    for line in lines:
        Console().print(Text(one_line(line)), soft_wrap=True)


def _describe(files: tuple[Path, ...], bundle: Path | None) -> None:
    """Put into a bundle's manifest what its training data were like."""
    from rich.console import Console

    from qgf_ros.bundle.locate import locate_bundle
    from qgf_ros.bundle.store import load_manifest, update_manifest
    from qgf_ros.errors import DatasetError
    from qgf_ros.learning.data.contract import Contract
    from qgf_ros.learning.data.dataset import load_dataset
    from qgf_ros.learning.data.normalisation import as_seen

    if len(files) != 1 or bundle is None:
        raise DatasetError(
            f"{len(files)} data sets and bundle {bundle} were given; give one FILE.npz and --bundle BUNDLE"
        )
    folder = locate_bundle(bundle)
    manifest = load_manifest(folder)
    data = as_seen(load_dataset(files[0], bounded=False), manifest, str(files[0]))
    contract = Contract(manifest.observation, manifest.action, manifest.control_rate)
    described, demonstrations = contract.described(data, files[0].name)
    new = manifest.model_copy(update={"observation": described.observation, "demonstrations": demonstrations})
    update_manifest(folder, new)
    console = Console()
    for note in data.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    line = f"{folder}: quantiles of {len(demonstrations.fields)} fields over {demonstrations.rows} observations"
    console.print(line, highlight=False, soft_wrap=True)


def _source(bundle: Path | None, contract: Path | None, **rest: Any) -> Source:
    from qgf_ros.bundle.locate import locate_bundle
    from qgf_ros.bundle.store import load_manifest
    from qgf_ros.control.robot_contract import RobotContract, read_robot_contract
    from qgf_ros.errors import RecordingError
    from qgf_ros.learning.data.contract import read_contract
    from qgf_ros.recording.rows.to_dataset import Source

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
        cameras=plain.cameras,
        **rest,
    )


def _write(path: Path, arrays: dict[str, Any]) -> None:
    """Write an .npz file in one move, what cameras saw uncompressed, so that it need not be in memory to be read.

    Raises:
        RecordingError: It cannot be written.
    """
    import zipfile

    import numpy as np

    from qgf_ros.errors import RecordingError
    from qgf_ros.files.destination import replacing

    seen = {name: array for name, array in arrays.items() if name.startswith("images/")}
    with replacing(path, error=RecordingError) as temporary:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **{name: array for name, array in arrays.items() if name not in seen})
        with zipfile.ZipFile(temporary, "a") as archive:
            for name, array in seen.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)

"""How the episodes of recordings ended: what they say, what is said for them, and what contradicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

from std_msgs.msg import Empty, String

from qgf_ros.cli import main
from qgf_ros.errors import RecordingError
from qgf_ros.recording.recording import Recording
from qgf_ros.recording.rows.outcomes import Outcomes
from qgf_ros.recording.rows.source import Source
from qgf_ros.recording.rows.to_dataset import convert
from qgf_ros.recording.rows.trajectories import Conversion

Make = Callable[..., Any]


@pytest.fixture
def demonstrations(run_of: Make, tmp_path: Path) -> Callable[..., Recording]:
    """Record episodes of four ticks, each of which ends with one of some messages; the last may end without."""
    from recorded_runs import record_run

    def make(*ends: Any, name: str = "demo.mcap", open_end: bool = False) -> Recording:
        run = run_of()
        for end in ends:
            run.ticks(4)
            run.hear("/episode", end)
            run.stamp += 10**9
        if open_end:
            run.ticks(4)
        return record_run(tmp_path / name, run)

    return make


@pytest.fixture
def solved(manifest_of: Make) -> Callable[..., tuple[list[bool], Conversion]]:
    """Return whether each trajectory of recordings is a success, and the conversion."""

    def make(*recordings: Recording, **outcomes: Any) -> tuple[list[bool], Conversion]:
        manifest = manifest_of()
        given = Outcomes.of(outcomes.pop("succeed", False), outcomes.pop("path", None))
        source = Source(manifest.observation, manifest.action, 20.0, episode="/episode", outcomes=given)
        conversion = convert(recordings, source)
        return [trajectory.solved for trajectory in conversion.trajectories], conversion

    return make


@pytest.fixture
def listing(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "outcomes.csv"
        path.write_text(text)
        return path

    return write


def said(success: Any) -> String:
    return String(data=json.dumps({"success": success}))


def test_outcomes_are_those_of_the_recording(demonstrations: Make, solved: Make) -> None:
    recording = demonstrations(said(True), said(False), said(None), open_end=True)
    successes, conversion = solved(recording)
    assert successes == [True, False, False, False]
    assert any(
        "ends without an outcome, so its last 4 commands do not count as a success" in n for n in conversion.notes
    )


def test_a_recording_without_ends_is_one_episode_that_succeeds_if_every_one_does(
    demonstrations: Make, solved: Make
) -> None:
    first, second = (demonstrations(name=f"{name}.mcap", open_end=True) for name in ("one", "two"))
    successes, conversion = solved(first, second, succeed=True)
    assert (successes, conversion.outcomes, conversion.notes) == ([True, True], 2, [])
    masks = conversion.arrays()["masks"]
    assert np.flatnonzero(masks == 0).tolist() == [3, 4, 8, 9]


@pytest.mark.parametrize("end", [Empty(), String(data="done"), String(data="{}"), said(True), said(None)])
def test_messages_that_only_end_episodes_are_enough_if_every_one_succeeds(
    end: Any, demonstrations: Make, solved: Make
) -> None:
    successes, conversion = solved(demonstrations(end, end, open_end=True), succeed=True)
    assert successes == [True, True, False]
    assert any("ends without an outcome" in note for note in conversion.notes)


def test_outcomes_are_read_from_a_list(demonstrations: Make, solved: Make, listing: Make) -> None:
    recordings = [demonstrations(open_end=True), demonstrations(Empty(), Empty(), name="two.mcap")]
    path = listing("\ufeffrecording, success\n\ndemo.mcap,TRUE\nsomewhere/two.mcap,no\ntwo.mcap,1\n")
    assert solved(*recordings, path=path)[0] == [True, False, True]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("recording,success\n", "has 0 lines of demo.mcap, expected 2, one for each episode"),
        ("recording,success\ndemo.mcap,true\n", "has 1 lines of demo.mcap, expected 2"),
        ("recording,success\n" + "demo.mcap,true\n" * 3, "has 3 lines of demo.mcap, expected 2"),
        ("recording,success\ndemo.mcap,maybe\n", "has the line 'demo.mcap,maybe', expected a name and true or false"),
        ("recording,success\ndemo.mcap\n", "has the line 'demo.mcap', expected a name"),
        ("demo.mcap,true\n", "does not begin with the line recording,success; give a first line recording,success"),
        ("", "does not begin with the line"),
        ('recording,success\n"' + "x" * 200_000, "is no text of comma-separated values"),
        ("x" * 2_000_000, "is larger than 1 MB"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(
    text: str, sentence: str, demonstrations: Make, solved: Make, listing: Make
) -> None:
    recording = demonstrations(Empty(), Empty())
    with pytest.raises(RecordingError, match=sentence):
        solved(recording, path=listing(text))


def test_a_list_that_cannot_be_opened_or_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read .No such file or directory.; give a list of outcomes"):
        Outcomes.of(False, tmp_path / "absent.csv")
    (tmp_path / "image.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordingError, match="is no text of comma-separated values"):
        Outcomes.of(False, tmp_path / "image.csv")


def test_what_the_recording_says_otherwise_is_not_overruled(demonstrations: Make, solved: Make, listing: Make) -> None:
    recording = demonstrations(said(True), said(False))
    with pytest.raises(RecordingError, match="says that an episode did not succeed, and --every-episode-succeeds the"):
        solved(recording, succeed=True)
    path = listing("recording,success\ndemo.mcap,false\ndemo.mcap,false\n")
    with pytest.raises(RecordingError, match="says that an episode succeeded, and .*outcomes.csv the contrary"):
        solved(recording, path=path)


@pytest.mark.parametrize(
    "end",
    [
        *(said(value) for value in ("true", 1, [], {})),
        *(String(data=text) for text in ("", "{}", "[]", "3", "[" * 100_000, "NaN", '{"success": yes}')),
        Empty(),
    ],
)
def test_what_is_no_outcome_is_refused(end: Any, demonstrations: Make, solved: Make) -> None:
    with pytest.raises(
        RecordingError, match="holds no outcome of an episode .*; it must be a String of JSON with the key"
    ):
        solved(demonstrations(end))


def test_without_any_outcome_it_is_said_how_to_give_one(demonstrations: Make, solved: Make) -> None:
    with pytest.raises(
        RecordingError, match="or, where each recording is a demonstration that succeeded, --every-episode"
    ):
        solved(demonstrations(open_end=True))


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--every-episode-succeeds"], 0, "5 rows in 1 trajectories, 1 solved"),
        (["--outcomes", "LIST"], 0, "5 rows in 1 trajectories, 1 solved"),
        (["--outcomes", "LIST", "--every-episode-succeeds"], 2, "give one of them"),
        ([], 2, "no outcome of an episode was recorded on sim_bridge/episode"),
    ],
)
def test_the_options_of_the_command(
    options: Sequence[str],
    code: int,
    sentence: str,
    demonstrations: Make,
    manifest_of: Make,
    listing: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recording, path = demonstrations(open_end=True), listing("recording,success\ndemo.mcap,true\n")
    contract = tmp_path / "contract.json"
    contract.write_text(manifest_of().model_dump_json(include={"observation", "action", "control_rate"}))
    arguments = ["--contract", str(contract), "--out", str(tmp_path / "out.npz")]
    words = [str(path) if word == "LIST" else word for word in options]
    assert main(["dataset", "from-bag", str(recording.path), *arguments, *words]) == code
    said_ = capsys.readouterr()
    assert sentence in " ".join((said_.out + said_.err).split())

"""Poses that are composed of transforms: where they are, how old they are, and what is kept for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from exploration import examples
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qgf_ros.control.sensing.further_readings import LocatedReading, MissedReading
from qgf_ros.control.sensing.sensor_messages import Transform
from qgf_ros.control.sensing.transform_tree import MOST_FRAMES, TransformTree

MS = 1_000_000
UP = (0.0, 0.0, 0.0, 1.0)
#: What is asked for: the pose of the tag in the base.
ASKED = {"tag in base": ("base", "tag")}


def about_z(angle: float) -> tuple[float, ...]:
    return 0.0, 0.0, math.sin(angle / 2.0), math.cos(angle / 2.0)


def transform(
    frame: str, child: str, stamp: int, x: float = 0.0, y: float = 0.0, z: float = 0.0, q: tuple[float, ...] = UP
) -> Transform:
    return Transform(frame, child, stamp, (x, y, z), q)


def tree(memory: float = 0.2) -> TransformTree:
    return TransformTree(ASKED, memory)


def only(parts: list[tuple[str, int, LocatedReading | MissedReading]]) -> tuple[int, LocatedReading]:
    ((source, stamp, reading),) = parts
    assert source == "tag in base"
    assert isinstance(reading, LocatedReading)
    return stamp, reading


def matrix(position: tuple[float, ...], q: tuple[float, ...] | NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z, w = q
    turned = np.eye(4)
    turned[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    turned[:3, 3] = position
    return turned


unit = st.floats(-1.0, 1.0)
quaternions = st.tuples(unit, unit, unit, unit).filter(lambda q: math.hypot(*q) > 0.1)
poses = st.tuples(st.tuples(unit, unit, unit), quaternions.map(lambda q: tuple(v / math.hypot(*q) for v in q)))


@examples(25)
@given(st.lists(poses, min_size=2, max_size=5), st.data())
def test_a_pose_is_the_product_of_the_matrices_on_its_way_whichever_way_they_point(
    steps: list[tuple[tuple[float, ...], tuple[float, ...]]], data: st.DataObject
) -> None:
    """From a frame up to where the ways meet, and from there down to the other."""
    meeting = data.draw(st.integers(0, len(steps)))
    names = ["base", *(f"link{i}" for i in range(1, len(steps))), "tag"]
    expected = np.eye(4)
    told = []
    for i, (position, q) in enumerate(steps):
        step = matrix(position, q)
        up = i < meeting
        expected = expected @ (np.linalg.inv(step) if up else step)
        parent, child = (names[i + 1], names[i]) if up else (names[i], names[i + 1])
        told.append(Transform(parent, child, 5, position, q))
    told = data.draw(st.permutations(told))
    found = tree()
    for one in told[:-1]:
        assert found.hear([one], static=False) == []
    _, reading = only(found.hear(told[-1:], static=False))
    np.testing.assert_allclose(matrix(tuple(reading.position), reading.quaternion_xyzw), expected, atol=1e-12)
    assert reading.frame_id == "base"


def test_a_pose_is_as_old_as_the_oldest_transform_on_its_way_and_the_others_are_as_they_were_then() -> None:
    found = tree()
    found.hear([transform("camera", "tag", 0)], static=False)  # from then on the way is known
    for k in range(6):  # the arm moves, ten times as often as a tag is seen
        found.hear([transform("base", "camera", k * 10 * MS, x=float(k))], static=False)
    stamp, reading = only(found.hear([transform("camera", "tag", 25 * MS, y=1.0)], static=False))
    assert stamp == 25 * MS
    np.testing.assert_allclose(reading.position, [2.5, 1.0, 0.0])
    assert found.hear([transform("base", "camera", 60 * MS, x=6.0)], static=False) == [], "nothing is newer by it"


def test_between_two_instants_a_frame_turns_the_shorter_way() -> None:
    found, other_sign = tree(), tuple(-value for value in about_z(1.0))
    found.hear([transform("camera", "tag", 25)], static=False)
    found.hear([transform("base", "camera", 0)], static=False)
    _, reading = only(found.hear([transform("base", "camera", 100, q=other_sign)], static=False))
    np.testing.assert_allclose(np.abs(reading.quaternion_xyzw), about_z(0.25), atol=1e-12)


def test_what_never_changes_does_not_grow_old_and_outlives_a_restart_of_the_clock() -> None:
    found = tree()
    assert found.hear([transform("tool", "camera", 0, z=0.5)], static=True) == []
    found.hear([transform("base", "tool", 10**15, x=1.0)], static=False)
    stamp, reading = only(found.hear([transform("camera", "tag", 10**15, y=1.0)], static=False))
    assert stamp == 10**15
    np.testing.assert_allclose(reading.position, [1.0, 1.0, 0.5])
    found.clear()
    assert found.hear([transform("base", "tool", 7, x=2.0)], static=False) == [], "the tag was forgotten"
    stamp, reading = only(found.hear([transform("camera", "tag", 7, y=1.0)], static=False))
    assert (stamp, reading.position[0]) == (7, 2.0)


def test_one_stamp_from_the_future_is_forgotten_when_sound_ones_follow_and_a_straggler_changes_nothing() -> None:
    found = tree()

    def hear(stamp: int, x: float) -> list[int]:
        return [made for _, made, _ in found.hear([transform("base", "tag", stamp, x=x)], static=False)]

    assert hear(100 * MS, 1.0) == [100 * MS]
    assert hear(50 * MS, 9.0) == [], "it was overtaken"
    assert hear(150 * MS, 2.0) == [150 * MS]
    assert hear(60 * MS, 9.0) == [], "and so was this, as a sound one came between them"
    assert hear(3600 * 10**9, 3.0) == [3600 * 10**9]
    assert hear(200 * MS, 4.0) == []
    assert hear(250 * MS, 5.0) == [250 * MS]


def test_of_other_frames_nothing_is_queued_and_of_those_on_the_way_only_what_may_still_be_asked_for() -> None:
    found = tree(memory=0.2)
    found.hear([transform("camera", "tag", 0)], static=False)
    for k in range(2000):
        found.hear([transform("base", "camera", k * MS), transform("map", "wheel", k * MS)], static=False)
        found.hear([transform("map", f"leaf{k}", k * MS)], static=False)
    kept = {child: len(edge.instants) for child, edge in found._edges.items()}
    assert (kept["camera"], kept["tag"]) == (201, 1)
    assert max(count for child, count in kept.items() if child not in ("camera", "tag")) == 1
    assert len(kept) <= MOST_FRAMES
    assert only(found.hear([transform("camera", "tag", 1900 * MS)], static=False))[0] == 1900 * MS


def test_frames_that_never_change_are_no_more_than_any_others() -> None:
    """They are said once, so that nothing of them is forgotten: of too many those that came first are known."""
    found = tree()
    found.hear([transform("map", f"shelf{k}", 0) for k in range(MOST_FRAMES + 100)], static=True)
    assert len(found._edges) == MOST_FRAMES
    assert "shelf0" in found._edges
    found.hear([transform("base", "tag", 1)], static=False)
    assert len(found._edges) == MOST_FRAMES
    assert str(found.gap("tag in base")).startswith("has more than 1000 frames, and none of those known is base")


def test_a_ring_of_frames_is_no_way() -> None:
    found = tree()
    assert (
        found.hear([transform("a", "base", 1), transform("base", "a", 1), transform("b", "tag", 1)], static=False) == []
    )
    assert str(found.gap("tag in base")).startswith("has no way through its transforms from frame base to tag")


@pytest.mark.parametrize(
    ("told", "static", "gap"),
    [
        ([], False, None),
        ([transform("base", "camera", 1)], False, "has no transform of frame tag; look at its spelling"),
        ([transform("base", "camera", 1), transform("world", "tag", 1)], False, "has no way through its transforms"),
        ([transform("base", "tag", 1)], True, "has only static transforms from frame base to tag"),
        ([transform("base", "tag", 1)], False, None),
        (
            [transform("base", "camera", 10**9), transform("camera", "tag", 1)],
            False,
            "has transforms from frame base that have no time in common",
        ),
    ],
)
def test_why_there_is_no_pose_yet_is_said(told: list[Transform], static: bool, gap: str | None) -> None:
    found = tree()
    found.hear(told, static=static)
    said = found.gap("tag in base")
    assert said is None if gap is None else str(said).startswith(gap)


def test_a_transform_that_is_no_rotation_is_refused_by_its_frames_and_one_of_nan_gives_none() -> None:
    found = tree()
    found.hear([transform("base", "camera", 1)], static=False)
    ((_, _, missed),) = found.hear([transform("camera", "tag", 1, q=(0.0, 0.0, 0.0, 0.5))], static=False)
    assert missed == MissedReading("gives a quaternion of length 0.5 from frame camera to tag, which is no rotation")
    found.hear([transform("base", "camera", 2)], static=False)
    _, reading = only(found.hear([transform("camera", "tag", 2, q=(math.nan,) * 4)], static=False))
    assert np.isnan(reading.position).all() or np.isnan(reading.quaternion_xyzw).all()

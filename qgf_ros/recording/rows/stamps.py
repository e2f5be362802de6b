"""Which stamps tell what belongs together: those in the messages, or, where these say nothing, times of arrival."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qgf_ros.recording.recording import Recorded
from qgf_ros.recording.rows.trajectories import Conversion

Messages = Mapping[str, list[Recorded]]


def telling(messages: Messages, command: str, live: Sequence[str], path: Path, into: Conversion) -> Messages:
    """Return the messages of a recording with stamps that tell which reading was there at which command.

    A stamp of 0 says nothing. Where a topic has no other, no stamp of any topic can be compared with its messages, and times
    of arrival, which are of one clock, take the place of all. Where a topic has others, too, what is stamped 0 is left out.

    Args:
        messages: By topic.
        command: Topic of the commands.
        live: Topics that deliver all the time, as opposed to goals.
        path: Name of the recording.
        into: Told of what is done.
    """
    silent = [
        topic for topic in dict.fromkeys((command, *live)) if messages[topic] and not any(map(_tells, messages[topic]))
    ]
    # A reading of a type without a header is dated by its arrival, whatever the others are dated by.
    undated = [topic for topic in silent if topic == command or any(one.stamped for one in messages[topic])]
    if undated:
        into.notes += [
            f"every message on {topic} of {path} is {'stamped 0' if messages[topic][0].stamped else 'without a stamp'}, so times "
            "of arrival tell what belongs together, of all topics"
            for topic in undated
        ]
        return {topic: list(map(as_received, found)) for topic, found in messages.items()}
    told = {topic: [one for one in messages[topic] if one.stamp] for topic in (*live, command)}
    left = {topic: len(messages[topic]) - len(found) for topic, found in told.items()}
    into.left_out["commands stamped 0"] += left.pop(command)
    into.notes += [
        f"{count} messages on {topic} of {path} are stamped 0, among others that are not, and were not used"
        for topic, count in left.items()
        if count
    ]
    return {**messages, **told}


def as_received(recorded: Recorded) -> Recorded:
    """Return a message as if it were stamped when it was received."""
    return replace(recorded, stamp=recorded.log_time, stamped=True)


def control_ticks(stamps: Sequence[int], period: int) -> list[list[int]]:
    """Return which of some rising stamps [ns] lie one `period` [ns] apart, to half a period: a list per gapless run."""
    runs = [[0]]
    while True:
        row = runs[-1][-1]
        wanted = stamps[row] + period
        later = bisect.bisect_left(stamps, stamps[row] + period / 2)
        if later == len(stamps):
            return runs
        near = bisect.bisect_left(stamps, wanted)
        nearest = min((i for i in (near - 1, near) if later <= i < len(stamps)), key=lambda i: abs(stamps[i] - wanted))
        if abs(stamps[nearest] - wanted) < period / 2:
            runs[-1].append(nearest)
        else:
            runs.append([later])


def _tells(recorded: Recorded) -> bool:
    return recorded.stamped and recorded.stamp > 0

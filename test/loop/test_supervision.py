"""Which limits hold where nobody says one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from qgf_ros.bundle.fields import ActionField, Measurement
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.errors import StartError
from qgf_ros.loop.supervision import RECOMMENDED_SUPERVISION, RefusedStart, Supervision


def test_in_simulated_time_there_is_no_limit_unless_it_is_given() -> None:
    waiting = RECOMMENDED_SUPERVISION.in_simulated_time()
    assert (waiting.deadline, waiting.timeout) == (math.inf, math.inf)
    given = Supervision(deadline=0.1, timeout=None).in_simulated_time()
    assert (given.deadline, given.timeout) == (0.1, None)
    assert Supervision(deadline=math.inf, timeout=None).in_simulated_time().timeout is None
    assert Supervision(deadline=None, timeout=2.0).in_simulated_time() == Supervision(math.inf, timeout=2.0)


def test_an_answer_may_fail_to_come_for_as_long_as_the_late_inferences_that_are_put_up_with() -> None:
    assert RECOMMENDED_SUPERVISION.longest_wait(1.0) == 3.0
    assert RECOMMENDED_SUPERVISION.longest_wait(0.01) == 0.5
    assert Supervision(timeout=0.2).longest_wait(1.0) == 0.2


@pytest.mark.parametrize(
    ("moved", "stands"), [([0.0, 0.0], True), ([0.04, -0.09], True), ([0.05, 0.0], False), ([0.0, -0.1], False)]
)
def test_a_refused_start_stands_until_one_component_has_moved_by_its_share_or_somebody_consents(
    moved: list[float], stands: bool, manifest_factory: Callable[..., Manifest]
) -> None:
    shares = (0.25, 0.5)  # of which a fifth is 0.05 and 0.1
    action = tuple(
        ActionField(
            name=f"joint{i}",
            unit="rad",
            scale=3.0,
            lower=-3.0,
            upper=3.0,
            hold=None,
            max_start_jump=share,
            measured=Measurement(field="angle", component=i),
        )
        for i, share in enumerate(shares)
    )
    place = np.array([1.0, -2.0, 0.0, 0.0, 0.0, 0.0])
    refused = RefusedStart(manifest_factory(action=action), 0.2, place, 3, StartError("too far"))
    later = np.array([*(place[:2] + np.array(moved) * 1.0001), 9.0, 9.0, 9.0, 9.0])
    assert refused.stands(later, 3) is stands
    assert not refused.stands(later, 4)
    assert refused.reason.startswith("too far; it is tried again once the robot has moved")

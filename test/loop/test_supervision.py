"""Which limits hold where nobody says one."""

from __future__ import annotations

import math

from qgf_ros.loop.supervision import RECOMMENDED_SUPERVISION, SHORTEST_TIMEOUT, Supervision


def test_in_simulated_time_there_is_no_limit_unless_it_is_given() -> None:
    waiting = RECOMMENDED_SUPERVISION.in_simulated_time()
    assert (waiting.deadline, waiting.timeout) == (math.inf, math.inf)
    given = Supervision(deadline=0.1, timeout=None).in_simulated_time()
    assert (given.deadline, given.timeout) == (0.1, None)
    assert Supervision(deadline=None, timeout=2.0).in_simulated_time() == Supervision(math.inf, timeout=2.0)


def test_an_answer_may_fail_to_come_for_as_long_as_the_late_inferences_that_are_put_up_with() -> None:
    assert RECOMMENDED_SUPERVISION.longest_wait(1.0) == 3.0
    assert RECOMMENDED_SUPERVISION.longest_wait(0.01) == SHORTEST_TIMEOUT
    assert Supervision(timeout=0.2).longest_wait(1.0) == 0.2

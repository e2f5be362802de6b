"""The words of guidance, which parameters and command line share; loads nothing, so that `qgf --help` may read them."""

from __future__ import annotations

#: Estimators of the gradient that guides a noised action; `guidance.estimators` has a function for each.
ESTIMATOR_NAMES = ("qgf", "qgf_jacobian", "qgf_chain", "noisy", "bptt")
#: The method that leaves the flow alone and climbs the critic from the finished action.
GRAD_STEP = "grad_step"
#: Every way to guide.
METHODS = (*ESTIMATOR_NAMES, GRAD_STEP)
#: Named weight schedules: the factor on the guidance weight at flow time t.
SCHEDULES = ("constant", "linear", "cosine")
#: Most steps of ``grad_step``; each is a critic gradient within the tick.
MOST_ASCENT_STEPS = 100

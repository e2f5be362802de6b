"""The words of guidance, which parameters and command line share; loads nothing, so that `qgf --help` may read them."""

from __future__ import annotations

_OF_ANY_CRITIC = ("qgf", "qgf_jacobian", "qgf_chain", "noisy", "bptt")
#: A critic of noised actions, and a velocity field beside the behaviour-cloned one: what a bundle brings itself, or not.
ROBUST, CLASSIFIER_FREE = "robust", "classifier_free"
#: Estimators of the gradient that guides a noised action; `guidance.estimators` has a function for each.
ESTIMATOR_NAMES = (*_OF_ANY_CRITIC, ROBUST, CLASSIFIER_FREE)
#: The method that leaves the flow alone and climbs the critic from the finished action.
GRAD_STEP = "grad_step"
#: Every way to guide with any velocity field and critic, the usual one first.
METHODS = (*_OF_ANY_CRITIC, GRAD_STEP)
#: Every way to guide.
EVERY_METHOD = (*METHODS, ROBUST, CLASSIFIER_FREE)
#: Named weight schedules: the factor on the guidance weight at flow time t.
SCHEDULES = ("constant", "linear", "cosine", "falling")
#: Most steps of ``grad_step``; each is a critic gradient within the tick.
MOST_ASCENT_STEPS = 100

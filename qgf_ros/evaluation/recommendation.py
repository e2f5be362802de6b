"""What a tuning recommends: which configurations its held-out seeds are asked about, and what they say.

Plain behaviour cloning is recommended unless the best configuration is better with confidence. Guidance that is made careful,
by a gate or a schedule, has to be better with confidence than whatever is recommended without it, too: than the best
guidance that is not careful, where that is better than behaviour cloning. Then there are two chances to recommend what
does not help, and each test against behaviour cloning has half of the level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from qgf_ros.control.run_options import DEFAULTS, RunOptions
from qgf_ros.evaluation.halving import Outcome, Search, rank
from qgf_ros.reports.statistics import PairedComparison, compare_paired

#: Level of the two-sided test behind a recommendation.
LEVEL = 0.05
#: Options that make guidance careful.
CAREFUL = ("weight_schedule", "disagreement_scale")


@dataclass(frozen=True)
class Recommendation:
    """What the held-out seeds say.

    Attributes:
        recommended: The configuration that is to be used.
        reported: In the order of the report: plain behaviour cloning, what was asked beside, and last what is recommended, or
            would have been had it been better with confidence.
        comparison: Of the last one with plain behaviour cloning; None where they are the same.
        careful: Of the careful configuration with the best one that is not; None where there was no such question.
    """

    recommended: RunOptions
    reported: tuple[RunOptions, ...]
    comparison: PairedComparison | None
    careful: PairedComparison | None

    def record(self) -> dict[str, Any]:
        """Return what was asked about careful guidance, as JSON values; nothing where there was no such question."""
        if self.careful is None:
            return {}
        careful = [one for one in self.reported[1:] if any(name in one.changed() for name in CAREFUL)]
        (usual,) = [one for one in self.reported[1:] if one not in careful]
        return {"careful": {"configuration": str(careful[0]), "beside": str(usual), **asdict(self.careful)}}


def asked(search: Search, plain: RunOptions) -> tuple[RunOptions, ...]:
    """Return what the held-out seeds are asked about: plain behaviour cloning, and the best.

    Between them stands, where the best is careful, the best of those that are not, the best of several candidates without
    guidance included: of the ones that lasted longest.
    """
    best = search.best
    if not any(name in best.changed() for name in CAREFUL):
        return tuple(dict.fromkeys((plain, best)))
    usual = {name: DEFAULTS[name] for name in CAREFUL}
    rivals = [one for one in search.outcomes if one == replace(one, **usual) and one != plain]
    first = sorted(rivals, key=lambda one: (-len(search.outcomes[one]), rank(one, search.outcomes[one])))[:1]
    return (plain, *first, best)


def decide(reported: Sequence[RunOptions], outcomes: Mapping[RunOptions, Sequence[Outcome]]) -> Recommendation:
    """Return the recommendation.

    Args:
        reported: From `asked`.
        outcomes: Of each on the held-out seeds.
    """
    plain, best = reported[0], reported[-1]
    if best == plain:
        return Recommendation(plain, (plain,), None, None)
    if len(reported) == 2:
        comparison = _paired(outcomes, plain, best)
        return Recommendation(best if is_better(comparison) else plain, (plain, best), comparison, None)
    rival = reported[1]
    helps = {one: is_better(_paired(outcomes, plain, one), LEVEL / 2.0) for one in (rival, best)}
    careful = _paired(outcomes, rival, best)
    taken = rival if helps[rival] and not (helps[best] and is_better(careful)) else best
    order = (plain, rival if taken == best else best, taken)
    return Recommendation(taken if helps[taken] else plain, order, _paired(outcomes, plain, taken), careful)


def is_better(comparison: PairedComparison, level: float = LEVEL) -> bool:
    """Return whether the second policy is better than the first with confidence."""
    return comparison.difference > 0.0 and comparison.p_value <= level


def _paired(
    outcomes: Mapping[RunOptions, Sequence[Outcome]], first: RunOptions, second: RunOptions
) -> PairedComparison:
    return compare_paired(*([outcome.success for outcome in outcomes[one]] for one in (first, second)))

"""``seeds: auto``: whether two trials are told apart yet, and by which rule.

Welch's t test (B. L. Welch, "The generalization of Student's problem when several different
population variances are involved", 1947) on the values of the seeds. It is looked at after every
added seed, and looking often finds differences by chance, so the allowed error ``p`` is shared
between all the looks that there may be (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence

from drillyard.spec.study import MoreSeedsSpec
from drillyard.statistics import welch


def verdict(a: Sequence[float], b: Sequence[float], rule: MoreSeedsSpec) -> tuple[bool, str]:
    """Whether no more seeds are wanted, and why in words.

    Args:
        a: The best trial's values, one a seed.
        b: The second best one's.
        rule: The cap and the allowed error.
    """
    looks = rule.most - rule.start + 1
    limit = rule.p / looks
    p = welch(a, b)
    many = min(len(a), len(b))
    test = f"Welch's test p = {p:.3g}, limit {limit:.3g} ({rule.p:g} shared by {looks} looks)"
    if p < limit:
        return True, f"decided after {many} seeds: {test}"
    if many >= rule.most:
        return True, f"not decided at the cap of {rule.most} seeds: {test}"
    return False, f"not decided after {many} seeds: {test}"

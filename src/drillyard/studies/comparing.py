"""``seeds: auto``: whether two trials differ, and by which rule.

Welch's t test (B. L. Welch, "The generalization of Student's problem when several different
population variances are involved", 1947) on the values of the seeds. It is computed after every
added seed, and repeated tests find differences by chance, so the allowed error ``p`` is divided
among the maximum number of tests (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence

from drillyard.spec.study import MoreSeedsSpec
from drillyard.statistics import remark, welch


def verdict(a: Sequence[float], b: Sequence[float], rule: MoreSeedsSpec) -> tuple[bool, str]:
    """Whether no more seeds are needed, and the reason for people.

    Args:
        a: The values of the best trial, one for each seed.
        b: The values of the second best trial.
        rule: The cap and the allowed error.
    """
    looks = rule.most - rule.start + 1
    limit = rule.p / looks
    p = welch(a, b)
    many = min(len(a), len(b))
    test = f"Welch's test p = {p:.3g}, limit {limit:.3g} ({rule.p:g} shared by {looks} looks)"
    if p < limit:
        return True, f"decided after {many} seeds: {test}; {remark(many)}"
    if many >= rule.most:
        return True, f"not decided at the cap of {rule.most} seeds: {test}"
    return False, f"not decided after {many} seeds: {test}"

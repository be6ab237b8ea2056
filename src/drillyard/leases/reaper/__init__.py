"""The reaper: finds by label what was rented and is of no use any more, and ends it.

It needs neither the process that rented nor, for what has a limit, the mailbox. ``judging``
decides about one lease and touches nothing, ``evidence`` reads what speaks for and against,
``reaper`` lists, ``one_lease`` ends and confirms, ``audit`` keeps a line of each deletion.
"""

from drillyard.leases.reaper.judging import Judgement, Verdict
from drillyard.leases.reaper.reaper import Reaper, configured, reap
from drillyard.leases.reaper.report import Outcome, Report

__all__ = ["Judgement", "Outcome", "Reaper", "Report", "Verdict", "configured", "reap"]

"""The reaper: finds by label what was rented and is of no use any more, and ends it.

It needs neither the process that rented nor, for what has a limit, the mailbox. ``judging``
decides about one lease and touches nothing, ``evidence`` reads what speaks for and against,
``reaper`` lists, ends and confirms, ``audit`` keeps a line of each deletion.
"""

from drillyard.leases.reaper.judging import Judgement, Verdict
from drillyard.leases.reaper.reaper import Outcome, Report, configured, reap

__all__ = ["Judgement", "Outcome", "Report", "Verdict", "configured", "reap"]

"""The reaper: finds leases by their label that are no longer of use, and ends them.

It does not need the process that rented them and, if they have a limit, not even the mailbox.
``verdict`` decides about one lease and changes nothing, ``evidence`` reads the facts, ``reaper``
lists, ``end_one_lease`` ends and confirms, ``audit`` writes a line for each deletion.
"""

from drillyard.leases.reaper.reaper import Reaper, configured, reap
from drillyard.leases.reaper.report import Outcome, Report
from drillyard.leases.reaper.verdict import Judgement, Verdict

__all__ = ["Judgement", "Outcome", "Reaper", "Report", "Verdict", "configured", "reap"]

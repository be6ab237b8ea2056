"""Load the trained policy of a run."""

from __future__ import annotations

from drillyard.agents.base import LoadedPolicy, Which, load_policy
from drillyard.agents.trained import policy_files
from drillyard.mailbox import Mailbox


def load_agent(mailbox: Mailbox, run: str, wanted: Which) -> tuple[LoadedPolicy, Which]:
    """The trained policy of a run; the final one where there is no best.

    Raises:
        NotFound: The run has no accepted training.
        CorruptObject: Its files are missing or changed.
    """
    files, which = policy_files(mailbox, run, wanted)
    return load_policy(files, which), which

"""``python -m drillyard.simulators.hosts``: a host, as drillyard itself starts it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from drillyard.errors import DrillyardError
from drillyard.simulators.hosts.certificates import Invitation
from drillyard.simulators.hosts.host import Host, Offer
from drillyard.simulators.hosts.providers import PATIENCE_S
from drillyard.system.operating_system import end_with_parent
from drillyard.system.redaction import log_to, register_environment
from drillyard.system.scratch import temporary_below


def main(arguments: list[str] | None = None) -> int:
    """Host copies for one learner; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m drillyard.simulators.hosts")
    parser.add_argument("--invitation", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--copies", type=int)
    options = parser.parse_args(arguments)
    end_with_parent(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the learner ends it
    register_environment()
    log_to(logging.StreamHandler())
    try:
        offer = Offer(f"{options.name} (process {os.getpid()})", options.copies)
        # Beside the invitation: whoever started this host deletes that folder, also after a kill.
        with temporary_below(options.invitation.resolve().parent):
            Host(Invitation.read(options.invitation), offer, PATIENCE_S).serve(once=True)
    except DrillyardError as error:
        logging.error("%s%s", error, f" ({error.hint})" if error.hint else "")
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())

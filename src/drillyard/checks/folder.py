"""Whether the experiment's folder can be sent to workers."""

from __future__ import annotations

from pathlib import Path

from drillyard.findings import Finding
from drillyard.runs.code_archive import pack
from drillyard.runs.identity import needs_code
from drillyard.spec.load import Loaded


def travels(loaded: Loaded, store: str) -> list[Finding]:
    """Returns nothing; the other workloads say themselves what travels.

    Args:
        loaded: The experiment.
        store: URL of the mailbox's store, which stays if it is in the folder.

    Raises:
        UserError: The folder cannot be sent: too large, a link, or a file that may not be read.
    """
    if loaded.spec.workload == "rl" and needs_code(loaded.spec):
        pack(loaded.folder, {loaded.file, *([] if "://" in store else [Path(store)])})
    return []

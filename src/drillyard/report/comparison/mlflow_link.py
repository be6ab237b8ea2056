"""The address of the same comparison in MLflow.

The page is ``/#/compare-runs?runs=[…]&experiments=[…]`` with JSON lists: read from the routes of
MLflow 3.17's own web page (``getCompareRunPageRoute``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from urllib.parse import quote

from drillyard.errors import DrillyardError
from drillyard.report.comparison.model import Candidate
from drillyard.tracking.behind import target
from drillyard.tracking.sync_state import Notes
from drillyard.tracking.uris import is_azure

_PAGE = re.compile(r"(?P<server>https?://.+?)/#/experiments/(?P<experiment>[^/]+)")


def mlflow_link(candidates: Sequence[Candidate]) -> str | None:
    """Where MLflow shows the compared side by side.

    Args:
        candidates: The compared.

    Returns:
        None where one of them was not mirrored to a web server, or to another one.
    """
    servers, experiments, runs = set(), [], []
    for candidate in candidates:
        try:
            uri = target(candidate.mailbox)
            if uri is None or is_azure(uri):
                return None
            notes = Notes(candidate.mailbox, uri)
            records = [notes.tracked(r.run) for r in candidate.results.runs]
            match = _PAGE.match(notes.page() or "")
        except DrillyardError:
            return None  # a link is not worth an error
        if match is None or not all(records):
            return None
        servers.add(match["server"])
        experiments.append(match["experiment"])
        runs += [run for run in records if run is not None]
    if len(servers) != 1:
        return None
    query = f"runs={_json(runs)}&experiments={_json(list(dict.fromkeys(experiments)))}"
    return f"{servers.pop()}/#/compare-runs?{query}"


def _json(values: list[str]) -> str:
    return quote(json.dumps(values, separators=(",", ":")), safe="[],")

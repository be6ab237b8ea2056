"""The tracker ``csv``: curves in plain files that grow while a run trains.

    <folder>/<experiment>/<run>.csv    step,time,metric,value: one line for each point
    <folder>/<experiment>/<run>.json   the run: parameters, tags, status, end values

Long rather than wide: a metric that appears later needs no new column.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from drillyard.errors import UserError
from drillyard.mailbox import Mailbox
from drillyard.system.files import write_file
from drillyard.tracking.curves import CurveTracker
from drillyard.tracking.tracker import Row, RunFacts
from drillyard.tracking.uris import beside_store

COLUMNS = ("step", "time", "metric", "value")


def csv_tracker(mailbox: Mailbox, address: str) -> CurveTracker:
    """Write the curves of an experiment into a folder.

    Args:
        mailbox: The experiment.
        address: The folder; a relative one counts from the folder that contains the store.
    """
    folder = beside_store(address, mailbox.store.url)
    return CurveTracker(mailbox, "csv", address, CsvWriter(folder))


class CsvWriter:
    """Writes one file of points for each run.

    Args:
        folder: Where; made with its first run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, TextIO] = {}

    def begin(self, run: RunFacts) -> None:
        """Start the file of a run again; the old one stays until the first rows are there."""
        self._release(run.id)
        self._own(run)
        fresh = self._path(run, ".csv.new")
        fresh.parent.mkdir(parents=True, exist_ok=True)
        file = open(fresh, "w", newline="", encoding="utf-8")  # noqa: SIM115
        csv.writer(file).writerow(COLUMNS)
        self._files[run.id] = file
        self._tell(run, "RUNNING", {})

    def write(self, run: RunFacts, rows: Sequence[Row]) -> None:
        """Add the points of the rows."""
        file = self._files[run.id]
        csv.writer(file).writerows(
            (row.step, row.time, name, repr(value))
            for row in rows
            for name, value in row.values.items()
        )
        self._show(run, file)

    def end(self, run: RunFacts, status: str, final: Mapping[str, float]) -> None:
        """Close the file, and say how the run ended."""
        file = self._files[run.id]
        self._show(run, file)
        os.fsync(file.fileno())
        self._release(run.id)
        self._tell(run, status, final)

    def has(self, run: RunFacts) -> bool:
        """Returns whether both files of a run are there."""
        return self._path(run, ".csv").is_file() and self._path(run, ".json").is_file()

    def link(self) -> str | None:
        """None: there is no web page."""
        return None

    def close(self) -> None:
        """Close the files of runs that have not ended."""
        for key in list(self._files):
            self._release(key)

    # -- inside -------------------------------------------------------------------------------

    def _path(self, run: RunFacts, ending: str) -> Path:
        return self._folder / run.experiment / f"{run.run}{ending}"

    def _show(self, run: RunFacts, file: TextIO) -> None:
        file.flush()
        fresh = self._path(run, ".csv.new")
        if fresh.exists():
            fresh.replace(self._path(run, ".csv"))

    def _release(self, run_id: str) -> None:
        file = self._files.pop(run_id, None)
        if file is not None:
            file.close()

    def _own(self, run: RunFacts) -> None:
        """Refuse the folder of another experiment with the same name."""
        known = self._path(run, ".json")
        if not known.is_file():
            return
        try:
            there = json.loads(known.read_text(encoding="utf-8")).get("id")
        except (ValueError, AttributeError):
            return
        if there != run.id:
            raise UserError(
                f"{known.parent} has the curves of another experiment {run.experiment!r}, from "
                "another store",
                hint="give this one another folder: `tracking: {csv: …}`, or rename the folder",
            )

    def _tell(self, run: RunFacts, status: str, final: Mapping[str, float]) -> None:
        facts = {**asdict(run), "status": status, "final": dict(final)}
        write_file(self._path(run, ".json"), json.dumps(facts, indent=1, sort_keys=True) + "\n")

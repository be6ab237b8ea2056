"""Removes the traceback from Prefect's log of a user's error.

Prefect logs every exception with its traceback. For a mistyped path in a form, that would be a
page of drillyard's code around one sentence.
"""

from __future__ import annotations

import logging

from drillyard.errors import Bug, DrillyardError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


class PlainErrors(logging.Filter):
    """Removes the traceback from errors that drillyard raised on purpose; a bug keeps it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record and lets every record pass."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, DrillyardError) and not isinstance(error, Bug):
            text = f"{error}\n  fix: {error.hint}" if error.hint else str(error)
            record.msg, record.args = "%s", (text,)
            record.exc_info = record.exc_text = None
        return True


_PLAIN = PlainErrors()


def install() -> None:
    """Installs the filter in this process; safe to repeat."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_PLAIN)  # adding the same filter again has no effect

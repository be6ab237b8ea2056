"""Prefect's log of a run says what went wrong in words, where the error is one of the tree.

Prefect logs every exception with its traceback. To somebody who mistyped a path in a form, that is
a page of our own code around one sentence.
"""

from __future__ import annotations

import logging

from drillyard.errors import Bug, DrillyardError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


class PlainErrors(logging.Filter):
    """Takes the traceback off errors that were raised on purpose; a bug keeps its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; every record passes."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, DrillyardError) and not isinstance(error, Bug):
            text = f"{error}\n  fix: {error.hint}" if error.hint else str(error)
            record.msg, record.args = "%s", (text,)
            record.exc_info = record.exc_text = None
        return True


_PLAIN = PlainErrors()


def install() -> None:
    """From now on, in this process; safe to repeat."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_PLAIN)  # the same one is added once

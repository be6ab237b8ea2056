"""Corrects Prefect's log: no traceback for a user's error, no error for a stop.

Prefect logs every exception with its traceback. For a mistyped path in a form, that would be a
page of drillyard's code around one sentence. And it logs the end of every task that is not
completed as an error (``prefect/task_engine.py``, ``log_finished_message``, 3.8), and a signal
that ends a flow run as a crash (``prefect/states.py``), also where the stop was asked for.
"""

from __future__ import annotations

import logging

from drillyard.errors import Bug, DrillyardError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


_STOPPED = {
    "Finished in state Cancelled(": logging.INFO,
    "Crash detected! Execution was aborted by a termination signal": logging.WARNING,
    "Crash detected! Execution was aborted by an interrupt signal": logging.WARNING,
}
"""Beginning of a message of Prefect -> the level that it has here."""


class PlainErrors(logging.Filter):
    """Removes the traceback from errors that drillyard raised on purpose; a bug keeps it.

    Lowers the level of messages about a requested stop.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record and lets every record pass."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, DrillyardError) and not isinstance(error, Bug):
            text = f"{error}\n  fix: {error.hint}" if error.hint else str(error)
            record.msg, record.args = "%s", (text,)
            record.exc_info = record.exc_text = None
        if record.levelno >= logging.ERROR:
            text = record.getMessage()
            level = next((n for start, n in _STOPPED.items() if text.startswith(start)), None)
            if level is not None:
                record.levelno, record.levelname = level, logging.getLevelName(level)
        return True


_PLAIN = PlainErrors()


def install() -> None:
    """Installs the filter in this process; safe to repeat."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_PLAIN)  # adding the same filter again has no effect

"""A driver on another machine, by its heartbeat alone."""

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import DriverRecord


def beat(mailbox: Mailbox, **more: object) -> None:
    """Writes the heartbeat of the first driver of an experiment.

    Args:
        mailbox: The experiment.
        **more: Other values of its record.
    """
    values = {
        "number": 1,
        "host": "elsewhere",
        "pid": 7,
        "pid_started": 1.0,
        "token": "t",
        "started_at": 0.0,
        "written_at": 0.0,
        **more,
    }
    mailbox.write("driver/1.json", DriverRecord.model_validate(values))

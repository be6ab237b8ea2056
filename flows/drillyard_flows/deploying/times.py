"""When a schedule fires, by the code with which Prefect's server plans."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.schemas.schedules import SCHEDULE_TYPES


def next_of(schedule: SCHEDULE_TYPES) -> datetime | None:
    """Returns the next time of a schedule; None if there is none, as on 30 February.

    Args:
        schedule: The schedule, as Prefect's client has it.
    """
    from prefect.client.schemas import schedules as client
    from prefect.server.schemas import schedules as server

    kinds = (
        (client.CronSchedule, server.CronSchedule),
        (client.IntervalSchedule, server.IntervalSchedule),
        (client.RRuleSchedule, server.RRuleSchedule),
    )
    for theirs, planner in kinds:
        if isinstance(schedule, theirs):
            try:
                planned = planner.model_validate(schedule.model_dump())
                dates = asyncio.run(planned.get_dates(1))
            except ValueError:  # croniter gives up after fifty years
                return None
            return dates[0] if dates else None
    return None  # a schedule without times

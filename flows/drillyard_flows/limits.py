"""A limit that Prefect counts: an experiment begins when as many slots are free as it has workers.

For what several experiments share and nobody may overdraw: licences of a simulator, GPUs, a rig.
All slots are taken at once, so that two experiments never wait for each other, and held until the
teardown. Prefect takes them back by itself when their holder is gone for a while.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from drillyard.driver.driver import Driver
from drillyard.errors import ConfigError, Stopped
from drillyard.runs.parallelism import workers

LOOK_S = 5.0
"""How often a waiting experiment looks whether it was stopped."""
log = logging.getLogger(__name__)


@contextlib.contextmanager
def slots(driver: Driver) -> Iterator[None]:
    """Hold the slots of ``resources.limit`` while the block runs; nothing where there is none.

    Args:
        driver: Open; nothing is rented yet.

    Raises:
        ConfigError: There is no such limit, or it is smaller than the experiment.
        Stopped: Somebody asked for that while it waited.
    """
    name = driver.spec.resources.limit
    if name is None:
        yield
        return
    many = workers(driver.spec)
    _must_suffice(name, many)
    with contextlib.ExitStack() as held:
        said = False
        while True:
            try:
                held.enter_context(
                    concurrency(
                        name,
                        occupy=many,
                        timeout_seconds=LOOK_S,
                        strict=True,
                        raise_on_lease_renewal_failure=False,  # what runs, runs
                    )
                )
                break
            except TimeoutError:
                if not said:
                    driver.say(f"waiting for {many} slots of the limit {name!r} in Prefect")
                    said = True
                order = driver.mailbox.cancelled()
                if order is not None:
                    raise Stopped(order.reason, hint="run the same command again") from None
        yield


def _must_suffice(name: str, many: int) -> None:
    field = "resources.limit"
    with get_client(sync_client=True) as client:
        try:
            found = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            known = sorted(one.name for one in client.read_global_concurrency_limits())
            raise ConfigError(
                "Prefect has no such global concurrency limit",
                field=field,
                value=name,
                allowed=", ".join(known) or "none is made yet",
                hint=f"make it: prefect gcl create {name} --limit {many}",
            ) from None
    if found.limit < many:
        raise ConfigError(
            f"has {found.limit} slots, and the experiment has {many} workers, so that it would "
            "wait for ever",
            field=field,
            value=name,
            allowed=f"a limit of {many} at least",
            hint=f"set resources.workers to {found.limit}, or raise it: prefect gcl update "
            f"{name} --limit {many}",
        )

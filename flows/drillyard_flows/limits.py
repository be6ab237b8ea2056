"""A limit in Prefect: an experiment starts when a free slot exists for each of its workers.

It is for what several experiments share: licences of a simulator, GPUs, a test rig. All slots are
acquired at once, so that two experiments never wait for each other, and held until the teardown.
Prefect releases them by itself when their holder is gone for a while.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from drillyard.driver.driver import Driver
from drillyard.errors import ConfigError, ControlPlaneError, DrillyardError, Stopped
from drillyard.runs.parallelism import workers

LOOK_S = 5.0
"""How often a waiting experiment checks whether it was stopped."""
log = logging.getLogger(__name__)


@contextlib.contextmanager
def slots(driver: Driver) -> Iterator[None]:
    """Holds the slots of ``resources.limit``, if there is one, while the block runs.

    Args:
        driver: An open driver that has rented nothing yet.

    Raises:
        ConfigError: The limit does not exist, or is smaller than the experiment.
        ControlPlaneError: Prefect has not answered for as long as a store may be away.
        Stopped: The experiment was stopped while it waited.
    """
    name = driver.spec.resources.limit
    if name is None:
        yield
        return
    held = _acquired(driver, name, workers(driver.spec))
    try:
        yield
    finally:
        try:
            held.close()
        except Exception as error:  # the results are there, whatever Prefect says
            log.warning(
                "the slots of the limit %r could not be released (%s); Prefect releases them "
                "by itself",
                *(name, error),
            )


def _acquired(driver: Driver, name: str, many: int) -> contextlib.ExitStack:
    """Waits for the slots; whoever closes what it returns releases them."""
    held = contextlib.ExitStack()
    reported, away_since = False, None
    while True:
        try:
            _must_suffice(name, many)
            held.enter_context(
                concurrency(
                    name,
                    occupy=many,
                    timeout_seconds=LOOK_S,
                    strict=True,
                    raise_on_lease_renewal_failure=False,  # the run continues
                )
            )
            return held
        except TimeoutError:
            away_since = None
            if not reported:
                driver.say(f"waiting for {many} slots of the limit {name!r} in Prefect")
                reported = True
        except DrillyardError:
            raise
        except Exception as error:  # Prefect's client has no common class for its failures
            now = driver.clock.monotonic()
            away_since = now if away_since is None else away_since
            if now - away_since >= driver.patience_s:
                raise ControlPlaneError(
                    f"Prefect, which counts the limit {name!r}, does not answer: {error}",
                    hint="run the same command again once it answers, or remove resources.limit",
                ) from error
            log.warning("Prefect, which counts the limit %r, does not answer: %s", name, error)
            driver.clock.wait(threading.Event(), LOOK_S)
        order = driver.mailbox.cancelled()
        if order is not None:
            raise Stopped(order.reason, hint="run the same command again")


def _must_suffice(name: str, many: int) -> None:
    field = "resources.limit"
    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            known = sorted(each.name for each in client.read_global_concurrency_limits())
            raise ConfigError(
                "Prefect has no such global concurrency limit",
                field=field,
                value=name,
                allowed=", ".join(known) or "there is none yet",
                hint=f"create it: prefect gcl create {name} --limit {many}",
            ) from None
    if limit.limit < many:
        raise ConfigError(
            f"has {limit.limit} slots, but the experiment has {many} workers and would wait "
            "forever",
            field=field,
            value=name,
            allowed=f"a limit of at least {many}",
            hint=f"set resources.workers to {limit.limit}, or raise the limit: prefect gcl update "
            f"{name} --limit {many}",
        )

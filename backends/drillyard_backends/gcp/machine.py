"""``python -m drillyard_backends.gcp.machine``: the program of one rented machine.

Reads its metadata and the bucket, nothing else; no port is open, except that a training with hosts
of copies listens for them. It is the same worker as on your
own machine, and around it what a rented machine owes: to flush first when it is taken away, and
to end itself when no work is left, no driver runs, or its time is over.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from drillyard.backend import Order
from drillyard.documents.json_types import as_object
from drillyard.errors import DrillyardError, InfrastructureError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import MACHINE, driven
from drillyard.mailbox.store_clock import StoreClock
from drillyard.system.processes import MARK
from drillyard.system.proxies import spare_loopback
from drillyard.system.redaction import log_to, register_environment
from drillyard.system.scratch import temporary_below
from drillyard.worker.loop import exit_after, run, within
from drillyard.worker.worker import Worker
from drillyard_backends.gcp import naming, records
from drillyard_backends.gcp.instance_group_self import InstanceGroupSelf
from drillyard_backends.gcp.lost_attempts import NeighbourAttempts
from drillyard_backends.gcp.metadata import Metadata
from drillyard_backends.gcp.self_delete import ASKED_IN_VAIN, SelfDelete

DEADLINE_MARGIN_S = 60.0
"""Before Google's own limit: what flushing and uploading may take."""
MIRROR_S = 120.0
EXIT_S = 20.0
"""How long the rest may take when this machine is stopped while it ends itself."""
LAST_WORDS_S = 2.0
"""How long the log of a machine that is being stopped may take to reach the bucket."""
SCRATCH = "DRILLYARD_SCRATCH"
log = logging.getLogger("drillyard.machine")


@dataclass(frozen=True)
class Identity:
    """What a machine was told.

    Attributes:
        name: Its name.
        number: Google's number of it.
        zone: Its zone.
        project: Id of the project.
        group: ``zones/Z/NAME`` or ``regions/R/NAME``.
        order: The order of the lease.
        settings: ``slots``, ``idle_s``, ``stop_grace_s``, ``mlflow``.
    """

    name: str
    number: str
    zone: str
    project: str
    group: str
    order: Order
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, metadata: Metadata) -> Identity:
        """Reads the identity from the metadata server.

        Raises:
            InfrastructureError: It does not answer, or this is not a machine of drillyard.
        """
        return cls(
            name=metadata.need("instance/name"),
            number=metadata.need("instance/id"),
            zone=metadata.need("instance/zone").rsplit("/", 1)[-1],
            project=metadata.need("project/project-id"),
            group=metadata.need(f"instance/attributes/{naming.GROUP_KEY}"),
            order=Order.from_bytes(
                metadata.need(f"instance/attributes/{naming.ORDER_KEY}").encode()
            ),
            settings=json.loads(metadata.attribute(naming.MACHINE_KEY) or "{}"),
        )


class Machine:
    """The program of one machine.

    Args:
        identity: Its identity and order.
        scratch: Local folder.
    """

    def __init__(self, identity: Identity, scratch: Path) -> None:
        self._me = identity
        self._scratch = scratch
        self._log = scratch / "machine.log"
        self._mailbox = Mailbox(open_store(identity.order.store_url), identity.order.experiment)
        self._clock = StoreClock(self._mailbox.store)
        self._group = InstanceGroupSelf(identity.project, identity.group, identity.zone)

    def run(self, metadata: Metadata) -> int:
        """Works, then ends this machine. Returns only when the machine is being stopped."""
        scratch = self._scratch / "work"
        scratch.mkdir(parents=True, exist_ok=True)
        self._record_start()
        settings = self._me.settings
        neighbours = NeighbourAttempts(self._mailbox, self._group, f"machine {self._me.name}")
        worker = Worker(
            self._order(),
            scratch,
            int(settings.get("slots", 1)),
            term_grace_s=float(settings.get("stop_grace_s", 20.0)),
            paid=True,
            close_lost=neighbours.look,
        )
        metadata.when_preempted(lambda: os.kill(os.getpid(), signal.SIGTERM))
        try:
            with temporary_below(scratch):
                code = run(worker)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if worker.terminated:
            log.info("this machine is being stopped; what was running is flushed")
            within(LAST_WORDS_S, self._keep_log)
            return 0
        why = records.WORKER_DONE if code == 0 else f"the worker exited with code {code}"
        if worker.unusable:
            why = f"{records.UNREADY}{worker.unusable}"
        return 0 if self._leave(why) else ASKED_IN_VAIN

    def _order(self) -> Order:
        """Returns the order with this machine's own settings."""
        order = self._me.order
        update: dict[str, Any] = {"idle_s": self._me.settings.get("idle_s", order.idle_s)}
        if order.deadline is not None:
            left_s = max(0.0, order.deadline - self._clock.now())
            update["deadline"] = order.deadline - min(DEADLINE_MARGIN_S, 0.1 * left_s)
        return order.model_copy(update=update)

    def _record_start(self) -> None:
        started = records.Started(
            machine=self._me.name,
            number=self._me.number,
            group=self._me.group,
            written_at=self._clock.now(),
        )
        with contextlib.suppress(InfrastructureError):
            records.begin(self._mailbox, self._me.order.lease_id, started)

    # -- the end ------------------------------------------------------------------------------

    def _leave(self, reason: str) -> bool:
        """Ends this machine; returns False if that fails: the start-up script powers it off."""
        ended = threading.Event()

        def on_term(_number: int, _frame: object) -> None:
            ended.set()

        signal.signal(signal.SIGTERM, on_term)
        exit_after(ended, EXIT_S)
        self_delete = SelfDelete(
            self._mailbox, self._me.order, self._group, self._me.name, self._me.number
        )
        self_delete.record(reason)
        self_delete.wait(ended)
        last = self_delete.last()
        if last:
            try:
                self._without_driver()
            except Exception:  # any error: the machine must end, because it costs money
                log.exception("the final work of the driver failed")
        log.info("%s: ending %s", reason, "the group" if last else "this machine")
        self._keep_log()
        ending = self_delete.delete(last, ended)
        log.info("this machine is being stopped" if ending else "Google does not end this machine")
        return ending

    def _without_driver(self) -> None:
        """Sends curves at the end, as a driver would, if no driver runs."""
        try:
            if not driven(self._mailbox):
                self._mirror()
        except InfrastructureError as error:
            log.warning("the mailbox is away at the end: %s", error)

    def _mirror(self) -> None:
        from drillyard.tracking.background import Mirror

        uri = self._tracking_uri()
        if uri is None:
            return
        if (urlsplit(uri).hostname or "").endswith(".run.app"):
            # A server of `drillyard mlflow gcp`: this machine's own identity is its login.
            os.environ.setdefault("MLFLOW_TRACKING_AUTH", "google-identity")
        try:
            report = Mirror(self._mailbox, uri, on_warning=log.info).sync_once(MIRROR_S)
            log.info("curves sent to MLflow: %s", report.to_json())
        except (DrillyardError, OSError) as error:
            log.warning("curves were not sent to MLflow: %s", error)

    def _tracking_uri(self) -> str | None:
        """Returns a server that this machine can reach; not a database of the driver."""
        spec = self._mailbox.experiment_record().spec
        uri = as_object(spec.get("tracking")).get("mlflow")
        if uri == "auto":
            uri = self._me.settings.get("mlflow") or os.environ.get("MLFLOW_TRACKING_URI")
        if isinstance(uri, str) and uri.startswith(("http://", "https://")):
            return uri
        return None

    def _keep_log(self) -> None:
        with contextlib.suppress(OSError):
            text = self._log.read_bytes()[-records.LOG_TAIL :].decode("utf-8", "replace")
            records.keep_log(self._me.order, self._me.name, text)


def main() -> int:
    """Runs the program; returns the exit code."""
    register_environment()
    spare_loopback()
    scratch = Path(os.environ.get(SCRATCH, "/var/tmp/drillyard"))
    scratch.mkdir(parents=True, exist_ok=True)
    log_to(logging.StreamHandler(), logging.FileHandler(scratch / "machine.log", "w"))
    try:
        metadata = Metadata()
        identity = Identity.read(metadata)
        # Records carry the provider's name of this machine; children inherit both.
        os.environ[MACHINE] = identity.name
        os.environ.setdefault(MARK, identity.order.lease_id)
        log.info("machine %s of lease %s", identity.name, identity.order.lease_id)
        return Machine(identity, scratch).run(metadata)
    except DrillyardError as error:
        log.error("%s%s", error, f" ({error.hint})" if error.hint else "")
        return int(error.exit_code)
    except Exception:
        log.exception("this machine's program failed")
        return 3


if __name__ == "__main__":
    sys.exit(main())

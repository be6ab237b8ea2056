"""The tracker ``wandb``: Weights & Biases, online or as offline runs for ``wandb sync``.

A run has one id for ever. W&B replaces the data of a run when another one is begun with its id and
without ``resume`` (its documentation of ``wandb.init``; of offline runs its issues 3841 and 5865),
so a run that is begun again is there once. ``wandb sync`` does not join several offline folders of
one run; so the earlier folders are removed once a newer one is complete.

Nothing about this machine is sent: no code, Git state, packages, host name or system metrics, and
no error reports to W&B's own makers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from drillyard.errors import DrillyardError, UserError
from drillyard.mailbox import Mailbox
from drillyard.system.clock import SYSTEM
from drillyard.system.home import local_home
from drillyard.system.optional_packages import must_have
from drillyard.tracking.curves import CurveTracker
from drillyard.tracking.tracker import Row, RunFacts
from drillyard.tracking.uris import beside_store, local_folder

STEP = "environment_steps"
"""The x-axis of every curve. W&B's own step counts rows: the steps of a run's streams overlap."""
_INIT_S = 15
_FINISH_S = 60
_TRIES = 10
"""After a kill, the client's service keeps the run locked for some seconds."""
_TEXT = 4000


def wandb_tracker(mailbox: Mailbox, address: str) -> CurveTracker:
    """Draw the curves of an experiment in W&B.

    Args:
        mailbox: The experiment.
        address: ``project`` or ``entity/project``.
    """
    must_have("wandb", "tracking.wandb")
    home = os.environ.get("WANDB_DIR")
    local = local_folder(mailbox.store.url) is not None
    folder = (
        Path(home) if home else beside_store(".", mailbox.store.url) if local else local_home()
    )
    return CurveTracker(mailbox, "wandb", address, WandbWriter(address, folder))


@dataclass
class _Run:
    run: Any  # wandb.Run: the package is optional
    folder: Path


class WandbWriter:
    """Writes runs with W&B's client.

    Args:
        address: ``project`` or ``entity/project``.
        folder: The client makes ``wandb/`` in it, for offline runs.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self._entity, _, self._project = address.rpartition("/")
        self._folder = folder
        self._open: dict[str, _Run] = {}
        self._link: str | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def begin(self, run: RunFacts) -> None:
        """Begin a run; what W&B has under its id is replaced."""
        import wandb

        self._finish(run.id, None)
        settings = wandb.Settings(
            reinit="create_new",
            console="off",
            silent=True,
            host="",
            init_timeout=_INIT_S,
            finish_timeout=_FINISH_S,
            finish_timeout_raises=True,
            disable_code=True,
            disable_git=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
            x_graphql_retry_max=1,
            x_graphql_timeout_seconds=_INIT_S,
        )
        offline = _offline(wandb)
        created = self._init(
            wandb,
            project=self._project,
            entity=self._entity or None,
            id=run.id,
            name=f"{run.experiment}/{run.run}",
            group=run.experiment,
            job_type=f"t{run.trial:04d}",
            tags=[f"seed {run.seed}"],
            config=_config(run),
            mode="offline" if offline else "online",
            dir=str(self._place(offline)),
            settings=settings,
        )
        created.define_metric(STEP)
        created.define_metric("*", step_metric=STEP)
        self._open[run.id] = _Run(created, Path(created.dir).parent)
        url = None if offline else created.url
        self._link = None if not url else str(url).rsplit("/runs/", 1)[0]

    def write(self, run: RunFacts, rows: Sequence[Row]) -> None:
        """Add rows; W&B's client sends them in its own time."""
        remote = self._open[run.id].run
        for row in rows:
            remote.log({STEP: row.step, "_timestamp": row.time, **row.values})

    def end(self, run: RunFacts, status: str, final: Mapping[str, float]) -> None:
        """Send the rest; an ended run fails in W&B unless it succeeded."""
        remote = self._open[run.id].run
        remote.config.update(_config(run), allow_val_change=True)
        word = run.tags.get("drillyard.status", status)
        remote.summary.update({**final, "drillyard.status": word})
        self._finish(run.id, 0 if status == "FINISHED" else 1)

    def has(self, run: RunFacts) -> bool:
        """Returns whether the folder of an offline run is there; online it is not asked."""
        import wandb

        return not _offline(wandb) or bool(self._folders(run.id))

    def link(self) -> str | None:
        """The project's page, or None offline."""
        return self._link

    def close(self) -> None:
        """Finish the runs that have not ended: they are begun again when they go on."""
        problem: DrillyardError | Exception | None = None
        for run in list(self._open):
            try:
                self._finish(run, 1)
            except Exception as error:
                problem = error
        if self._scratch is not None:
            with contextlib.suppress(OSError):
                self._scratch.cleanup()
        if problem is not None:
            raise problem

    # -- inside -------------------------------------------------------------------------------

    def _init(self, wandb: Any, **arguments: object) -> Any:
        for left in reversed(range(_TRIES)):
            try:
                return wandb.init(**arguments)
            except wandb.errors.UsageError as error:
                raise UserError(
                    f"W&B refuses us: {str(error).splitlines()[0]}",
                    hint="`wandb login`, or set WANDB_API_KEY; WANDB_MODE=offline needs neither",
                ) from error
            except wandb.errors.Error as error:
                if "in use" not in str(error) or not left:
                    raise
                SYSTEM.wait(threading.Event(), 1.0)
        raise AssertionError("unreachable")

    def _place(self, offline: bool) -> Path:
        if offline:
            self._folder.mkdir(parents=True, exist_ok=True)
            return self._folder
        # W&B has the run itself; its client's own copy is not needed.
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(
                prefix="drillyard-wandb-", ignore_cleanup_errors=True
            )
        return Path(self._scratch.name)

    def _folders(self, run_id: str) -> list[Path]:
        # Two folders of one second: the client numbers the second, but not the file in it.
        files = (self._folder / "wandb").glob(f"offline-run-*/run-{run_id}.wandb")
        return sorted(file.parent for file in files)

    def _finish(self, run_id: str, code: int | None) -> None:
        run = self._open.pop(run_id, None)
        if run is None:
            return
        run.run.finish(exit_code=1 if code is None else code)
        _wait_until_closed(run.folder / f"run-{run_id}.wandb")
        for earlier in self._folders(run_id):
            if code is not None and earlier != run.folder:
                shutil.rmtree(earlier, ignore_errors=True)


def _wait_until_closed(file: Path) -> None:
    """Waits for the client's service, which writes the last part of a file after ``finish``.

    Raises:
        TimeoutError: It still writes after a minute.
    """
    file = file.resolve()  # as the system names open files
    deadline = SYSTEM.monotonic() + _FINISH_S
    while any(_has_open(child, file) for child in psutil.Process().children(recursive=True)):
        if SYSTEM.monotonic() > deadline:
            raise TimeoutError(f"its client did not complete {file} in {_FINISH_S} s")
        SYSTEM.wait(threading.Event(), 0.01)


def _has_open(process: psutil.Process, file: Path) -> bool:
    try:
        return any(Path(opened.path) == file for opened in process.open_files())
    except psutil.Error:  # it has ended, or belongs to another user
        return False


def _config(run: RunFacts) -> dict[str, str]:
    return {**run.params, **{f"tags/{k}": v[:_TEXT] for k, v in run.tags.items()}}


def _offline(wandb: Any) -> bool:
    return str(wandb.setup().settings.mode) in ("offline", "dryrun", "disabled")

"""The only module that calls MLflow: find, send, translate errors. Every call is idempotent.

MLflow is imported in here only. Facts about 3.17 that this stands on: a metric's identity in the
database is (run, key, timestamp, step, value), so that a batch sent twice leaves one copy; a
parameter never changes its value; the newest point of each key comes with the run; nothing stops
two clients from making the same run twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard.errors import ControlPlaneError, DrillyardError, UserError
from drillyard.system.clock import SYSTEM
from drillyard.system.files import locked
from drillyard.tracking.environment import no_telemetry
from drillyard.tracking.limits import admitted, limits_of
from drillyard.tracking.new_database import begun
from drillyard.tracking.points import Point, batches
from drillyard.tracking.uris import mask, sqlite_file

if TYPE_CHECKING:  # its import takes seconds
    from mlflow.entities import Run

LEFT_OUT = "drillyard.left_out"
"""Tag of a run: what the server has no room for."""
log = logging.getLogger(__name__)

_LOCK_WAIT_S = 60.0
_NO_ANSWER = ("Max retries exceeded", "Read timed out", "Connection refused")


@dataclass
class RemoteRun:
    """The server's state of a run, as last read."""

    run_id: str
    status: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    floors: dict[str, int] = field(default_factory=dict)
    """Metric -> its greatest step."""
    values: dict[str, float] = field(default_factory=dict)
    """Metric -> its value there."""
    left_out: set[str] = field(default_factory=set)
    """Metrics that it has no room for."""


def clip(value: object, limit: int) -> str:
    """A value as text, no longer than the server takes; a cut is visible."""
    text = str(value)
    return text if len(text) <= limit else text[: limit - 8] + " … (cut)"


def artifact_folder(uri: str, otherwise: Path | None = None) -> Path | None:
    """The folder for the files of a server without its own: beside its database.

    Args:
        uri: The server.
        otherwise: The folder to use if the URI is not a file.
    """
    if "://" not in uri or uri.startswith(("http", "azureml:")):
        return None
    database = sqlite_file(uri)
    home = database.parent if database else otherwise
    return None if home is None else home / "mlflow-artifacts"


class Server:
    """A tracking server, or a database in its place.

    Args:
        uri: As MLflow takes it.
        artifact_folder: Where files go when the URI is a database: MLflow's own default is a
            folder in the working directory of whoever comes first.

    Raises:
        UserError: MLflow is not installed, or does not know this kind of URI.
        ControlPlaneError: The database cannot be opened.
    """

    def __init__(self, uri: str, artifact_folder: Path | None = None) -> None:
        self.uri = uri
        self._limits = limits_of(uri)
        self._artifact_folder = artifact_folder
        no_telemetry()
        try:
            from mlflow.tracking import MlflowClient
            from mlflow.version import VERSION
        except ImportError as error:
            raise UserError(
                f"MLflow cannot be imported: {error}",
                hint="install drillyard[control], or turn tracking off with `tracking: "
                "{mlflow: null}`",
            ) from error
        database = sqlite_file(uri)
        with self._translated(), self._database_lock(), begun(database, VERSION):
            self._client = MlflowClient(tracking_uri=uri)
            if database:  # creates the tables under a lock
                self._client.get_experiment("0")

    def look(self) -> None:
        """Sends a request that changes nothing, to see whether it answers.

        Raises:
            DrillyardError: It does not.
        """
        with self._translated():
            self._client.search_experiments(max_results=1)

    # -- experiments and runs -----------------------------------------------------------------

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is made when it is not there.

        Raises:
            UserError: It was deleted in MLflow.
        """
        with self._translated():
            existing = self._client.get_experiment_by_name(name)
            if existing is None:
                folder = self._artifact_folder
                place = None if folder is None else (folder / name).as_uri()
                try:
                    return str(self._client.create_experiment(name, artifact_location=place))
                except Exception as error:
                    if _code(error) != "RESOURCE_ALREADY_EXISTS":
                        raise
                    existing = self._client.get_experiment_by_name(name)
        if existing is None or existing.lifecycle_stage != "active":
            raise UserError(
                f"experiment {name!r} was deleted in MLflow",
                hint="restore it with `mlflow experiments restore`, or empty the bin with "
                "`mlflow gc`, and sync again",
            )
        return str(existing.experiment_id)

    def run(self, run_id: str) -> RemoteRun | None:
        """The server's state of a run; None if it does not exist or was deleted."""
        with self._translated():
            try:
                answer = self._client.get_run(run_id)
            except Exception as error:
                if _code(error) == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise
        return None if answer.info.lifecycle_stage != "active" else _remote(answer)

    def find(self, experiment_id: str, tags: Mapping[str, str]) -> list[str]:
        """Ids of the runs that have these tags, oldest first.

        Args:
            experiment_id: Where to look.
            tags: Their values hold no quotes: MLflow's filter language has no escape.
        """
        clauses = " and ".join(f"tags.`{k}` = '{v}'" for k, v in tags.items())
        with self._translated():
            answer = self._client.search_runs(
                [experiment_id],
                filter_string=clauses,
                max_results=100,
                order_by=["attributes.start_time ASC"],
            )
        return [str(r.info.run_id) for r in answer]

    def create(
        self, experiment_id: str, name: str, tags: Mapping[str, str], started_at: float
    ) -> str:
        """Make a run."""
        with self._translated():
            created = self._client.create_run(
                experiment_id, start_time=round(started_at * 1000), tags=dict(tags), run_name=name
            )
        return str(created.info.run_id)

    def delete(self, run_id: str) -> None:
        """Deletes a run that was created twice."""
        with self._translated():
            self._client.delete_run(run_id)

    def set_status(self, run_id: str, status: str, ended_at: float | None) -> None:
        """Set a run's state; the end time where it has ended."""
        with self._translated():
            if status in ("RUNNING", "SCHEDULED"):
                self._client.update_run(run_id, status=status)
            else:
                stamp = round((ended_at or SYSTEM.now()) * 1000)
                self._client.set_terminated(run_id, status=status, end_time=stamp)

    # -- content ------------------------------------------------------------------------------

    def send_points(self, remote: RemoteRun, points: Iterable[Point]) -> int:
        """Send points of curves in batches; how many."""
        from mlflow.entities import Metric

        sent = 0
        for every in batches(points, self._limits.metrics_a_batch):
            batch = self._fitting(remote, every)
            if not batch:
                continue
            with self._translated():
                self._client.log_batch(
                    remote.run_id,
                    metrics=[Metric(p.key, p.value, p.timestamp_ms, p.step) for p in batch],
                    synchronous=True,
                )
            for point in batch:
                if point.step >= remote.floors.get(point.key, -1):
                    remote.floors[point.key] = point.step
                    remote.values[point.key] = point.value
            sent += len(batch)
        return sent

    def _fitting(self, remote: RemoteRun, points: Sequence[Point]) -> Sequence[Point]:
        """The points whose metrics the run has room for; the others are told of once."""
        most = self._limits.metrics
        if most is None:
            return points
        names = {p.key for p in points} - remote.left_out
        fit = admitted(names, remote.floors, most)
        if names - fit:
            remote.left_out |= names - fit
            text = f"{len(remote.left_out)} metrics: {', '.join(sorted(remote.left_out))}"
            where = mask(self.uri)
            log.warning("%s takes %d metrics a run, and is not sent %s", where, most, text)
            self.send_tags(remote, {LEFT_OUT: text})
        return [p for p in points if p.key in fit]

    def send_params(self, remote: RemoteRun, params: Mapping[str, str]) -> None:
        """Send parameters that are not there; one that has changed is kept as a tag beside it.

        MLflow never changes a parameter, and a larger budget under the same name is legal here.
        """
        from mlflow.entities import Param

        limits = self._limits
        values = {k: clip(v, limits.param) for k, v in params.items()}
        new = [k for k in values if k not in remote.params]
        if limits.params is not None:
            new = new[: max(0, limits.params - len(remote.params))]
            values = {k: v for k, v in values.items() if k in remote.params or k in new}
        for batch in batches(new, limits.params_a_batch):
            with self._translated():
                self._client.log_batch(
                    remote.run_id, params=[Param(k, values[k]) for k in batch], synchronous=True
                )
            remote.params.update({k: values[k] for k in batch})
        changed = {f"changed.{k}": v for k, v in values.items() if remote.params[k] != v}
        self.send_tags(remote, changed)

    def send_tags(self, remote: RemoteRun, tags: Mapping[str, str]) -> None:
        """Send tags that are not there or have another value."""
        from mlflow.entities import RunTag

        limits = self._limits
        values = {k: clip(v, limits.tag) for k, v in tags.items()}
        values = {k: v for k, v in values.items() if remote.tags.get(k) != v}
        if limits.tags is not None:
            new = [k for k in values if k not in remote.tags]
            for name in new[max(0, limits.tags - len(remote.tags)) :]:
                del values[name]
        for batch in batches(list(values), limits.params_a_batch):
            with self._translated():
                self._client.log_batch(
                    remote.run_id, tags=[RunTag(k, values[k]) for k in batch], synchronous=True
                )
        remote.tags.update(values)

    def send_file(self, run_id: str, path: Path, name: str) -> None:
        """Write a local file as the artifact ``name`` (its folder and last part)."""
        folder = name.rpartition("/")[0]
        with self._translated():
            self._client.log_artifact(run_id, str(path), folder or None)

    def fetch_file(self, run_id: str, name: str, folder: Path) -> Path | None:
        """Read an artifact back into a folder; None when it is not there."""
        with self._translated():
            parent = name.rpartition("/")[0] or None
            if all(f.path != name for f in self._client.list_artifacts(run_id, parent)):
                return None
            return Path(self._client.download_artifacts(run_id, name, str(folder)))

    def link(self, experiment_id: str, run_id: str | None = None) -> str | None:
        """Where a browser sees it, or None for a database."""
        if not self.uri.startswith(("http://", "https://")):
            return None
        page = f"{mask(self.uri).rstrip('/').replace('***@', '')}/#/experiments/{experiment_id}"
        return page if run_id is None else f"{page}/runs/{run_id}"

    # -- inside -------------------------------------------------------------------------------

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(self.uri):
            yield

    @contextmanager
    def _database_lock(self) -> Iterator[None]:
        """Lets one process at a time create the tables: MLflow's own start is not safe for two."""
        database = sqlite_file(self.uri)
        if database is None:
            yield
            return
        busy = ControlPlaneError(
            f"{database} is being set up by another process for over {_LOCK_WAIT_S:g} s",
            hint="`fuser` on the .lock file beside it shows which",
        )
        with locked(database.with_name(database.name + ".lock"), _LOCK_WAIT_S, busy):
            yield


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """What MLflow raises meanwhile, as our own errors.

    Args:
        uri: Address of the server.
    """
    try:
        yield
    except DrillyardError:
        raise
    except Exception as error:
        raise _meaning(error, uri) from error


def _remote(run: Run) -> RemoteRun:
    return RemoteRun(
        run_id=str(run.info.run_id),
        status=str(run.info.status),
        params=dict(run.data.params),
        tags=dict(run.data.tags),
        # The public `metrics` has no steps; the whole histories would cost a request a key.
        floors={m.key: int(m.step) for m in run.data._metric_objs},
        values={m.key: float(m.value) for m in run.data._metric_objs},
    )


def _code(error: Exception) -> str:
    return str(getattr(error, "error_code", ""))


def _meaning(error: Exception, uri: str) -> DrillyardError:
    """What a foreign exception means to the user."""
    text = mask(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
    text = text if len(text) < 300 else text[:300] + " …"
    code = _code(error)
    name = type(error).__name__
    if name == "UnsupportedModelRegistryStoreURIException" or "Unsupported URI" in text:
        return UserError(
            f"MLflow does not know the tracking URI {mask(uri)!r}",
            hint="http://…, https://…, sqlite:///path, postgresql://…",
        )
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return UserError(
            f"the tracking server {mask(uri)} refuses us: {text}",
            hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN",
        )
    if "out-of-date database schema" in text:
        return UserError(
            f"the database {mask(uri)} was made by another version of MLflow: {text}",
            hint=f"back it up, then `mlflow db upgrade {mask(uri)}`",
        )
    if any(sign in str(error) for sign in _NO_ANSWER):
        text = "it does not answer"
    return ControlPlaneError(text, hint="nothing is lost: `drillyard sync` sends what is missing")

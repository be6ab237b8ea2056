"""The report of an experiment: one page that needs no network, its pictures and its data.

report/index.html                            the page
report/learning_curve.{svg,png,csv}          return over steps, every seed, mean and band
report/evaluation.{svg,png,csv}              agent and baselines with intervals
report/episode.{svg,png,csv}                 one evaluation episode
report/network.{svg,png,csv}                 the policy's layers
report/<one of these>_<simulator>.…          where there are several simulators
report/study_*.{svg,png,csv}                 of a study: history, importances, comparisons
report/metrics.csv                           metrics over seeds, where a run measured any
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drillyard.errors import CorruptObject, NotFound, StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.mailbox.store import ObjectMissing
from drillyard.results import ExperimentResults, collect, metrics_csv
from drillyard.results.fingerprint import fingerprint
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.home import local_home
from drillyard.system.output_files import page_last, write_folder
from drillyard.system.safe_names import file_name

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where a report was written.

    Attributes:
        index: Path of the page on this machine, or its URL in a remote store.
        keys: Every file's key in the store, relative to the experiment's folder; none where it
            could not be written.
        results: What it shows.
    """

    index: str
    keys: tuple[str, ...]
    results: ExperimentResults

    @property
    def local(self) -> Path | None:
        """The page as a file of this machine, or None."""
        return None if "://" in self.index else Path(self.index)


def build(mailbox: Mailbox, out: Path | None = None, *, clock: Clock = SYSTEM) -> ReportFiles:
    """Write the report of an experiment, at any stage of its life, over an older one.

    Args:
        mailbox: The experiment; files go to its ``report/``.
        out: A local folder that gets the same files; default for a store that is not on this
            machine: one in ``~/.drillyard/reports``, because no browser opens a bucket.
        clock: For the date on the page.

    Returns:
        Where it is: the page in ``out``, else in the store.

    Raises:
        NotFound: No such experiment.
        ConfigError, StoreUnavailable: ``out`` cannot be written, or without one the store.
        UserError: matplotlib is not installed.
    """
    results = with_fingerprints(mailbox, collect(mailbox))
    files = render(mailbox, results, made_at=clock.now())
    index, keys = publish(mailbox, files, out)
    return ReportFiles(index, keys, dataclasses.replace(results, report=index))


def publish(
    mailbox: Mailbox, files: Mapping[str, bytes], out: Path | None
) -> tuple[str, tuple[str, ...]]:
    """Write the files of a report to where people look for them.

    Args:
        mailbox: The experiment.
        files: Name -> content.
        out: A local folder; see ``build``.

    Returns:
        Where the page is, and the keys of the files in the store.

    Raises:
        ConfigError, StoreUnavailable: ``out`` cannot be written, or without one the store.
    """
    if out is None and not on_this_machine(mailbox):
        out = copies(mailbox)
    if out is not None:
        write_folder(out, files, "--out")
    keys = {f"report/{name}": files[name] for name in page_last(files)}
    try:
        for key, data in keys.items():
            mailbox.store.put(mailbox.key(key), data)
    except StoreUnavailable as error:
        if out is None:
            raise
        log.warning("the report is here only: %s", error)  # whoever may only read sees it too
        keys = {}
    return location(mailbox) if out is None else str(out / "index.html"), tuple(keys)


def render(mailbox: Mailbox, results: ExperimentResults, *, made_at: float) -> dict[str, bytes]:
    """Every file of a report, name -> bytes; nothing is written.

    Args:
        mailbox: For the evaluation episode.
        results: What was collected, with curves.
        made_at: Epoch seconds, shown on the page.
    """
    from drillyard.report import data, html, network, simulator_sections, utilisation

    warnings = list(results.warnings)
    worlds = [simulator_sections.of(w) for w in data.worlds(mailbox, results, warnings)]
    usage = utilisation.section(mailbox, results, warnings)
    trials = None
    if results.spec.get("study"):
        from drillyard.report import study
        from drillyard.results.trials import collect_trials

        trials = study.section(mailbox, collect_trials(mailbox))
    layers = network.section(mailbox, results, warnings)
    drawn = [w[kind] for w in worlds for kind in ("learning", "evaluation", "episode")]
    drawn += [usage and usage["picture"], *(trials.drawn if trials else ()), layers]
    files = {name: data for d in drawn if d is not None for name, data in d.contents().items()}
    if results.metrics:
        files["metrics.csv"] = metrics_csv(results).encode()
    text = html.page(
        results,
        worlds=worlds,
        warnings=warnings,
        made_at=made_at,
        study=trials,
        usage=usage,
        network=layers,
    )
    return {**files, "index.html": text.encode()}


def with_fingerprints(mailbox: Mailbox, results: ExperimentResults) -> ExperimentResults:
    """The results with the fingerprint of each finished run; a damaged run gets none."""
    runs, warnings = [], list(results.warnings)
    for run in results.runs:
        if run.wall_s is not None:
            try:
                run = dataclasses.replace(run, fingerprint=fingerprint(mailbox, run.run))
            except NotFound:
                pass  # a workload without weights
            except (CorruptObject, ObjectMissing, ValueError) as error:
                warnings.append(f"{run.run} has no fingerprint: {error}")
        runs.append(run)
    return dataclasses.replace(results, runs=tuple(runs), warnings=tuple(warnings))


def on_this_machine(mailbox: Mailbox) -> bool:
    """True where the store's objects are files here."""
    return callable(getattr(mailbox.store, "path", None))


def copies(mailbox: Mailbox) -> Path:
    """The local folder for the report of a store that is not on this machine."""
    digest = hashlib.sha256(mailbox.store.url.encode()).hexdigest()[:10]
    return local_home() / "reports" / digest / file_name(mailbox.experiment)


def location(mailbox: Mailbox) -> str:
    """Where the page of an experiment is: a path on local disk, else its URL."""
    key = mailbox.key("report/index.html")
    path = getattr(mailbox.store, "path", None)
    if callable(path):
        return str(path(key))
    return f"{mailbox.store.url.rstrip('/')}/{key}"

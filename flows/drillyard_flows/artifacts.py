"""The result in Prefect's UI: a table, the learning curve, links to MLflow and the report.

Pages of Prefect do not follow while they are open; live curves are MLflow's and TensorBoard's. A
picture goes into markdown as a data URI, because the image artifact prints the whole URI as text.
A browser follows no link from a served page to a file, so files are shown as paths to copy.
"""

from __future__ import annotations

import base64
import logging
from typing import Any

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from drillyard.driver.driver import Driver
from drillyard.mailbox import Mailbox
from drillyard.results import collect, formatting
from drillyard.results.model import ExperimentResults
from drillyard_tasks.publisher import artifact_key

MAX_PICTURE_BYTES = 600_000
"""It is kept in Prefect's database, and sent with every look at the page."""
MOST_RUNS = 200
log = logging.getLogger(__name__)


def publish(driver: Driver, report: str | None) -> str:
    """Show results in Prefect.

    It may not fail an experiment whose results are stored: what goes wrong is logged.

    Args:
        driver: Whose experiment.
        report: Where the report is, if it was built.

    Returns:
        The result in a sentence.
    """
    verdict = ""
    try:
        results = collect(driver.mailbox, curves=False)
        verdict = formatting.verdict(results)
        _table(results)
        links = _links(driver, report)
        _curve(driver.mailbox, results, verdict, links)
    except Exception as error:
        log.warning("results could not be shown in Prefect: %s", error)
    return verdict


def address(driver: Driver, report: str) -> str:
    """Where a browser gets the report: at MLflow's server, to which the mirror sends it.

    Args:
        driver: Whose experiment.
        report: Its path in the store, which is the answer where there is no server.
    """
    page = _page(driver)
    return f"{page}/artifacts/report/index.html" if page else report


def _page(driver: Driver) -> str | None:
    """The experiment at MLflow's server, once it was mirrored."""
    from drillyard.tracking.sync_state import Notes
    from drillyard.tracking.uris import resolve_uri

    mailbox = driver.mailbox
    uri = resolve_uri(driver.loaded.spec.tracking.mlflow, mailbox.store.url)
    return Notes(mailbox, uri).page() if uri is not None else None


def rows(results: ExperimentResults) -> list[dict[str, Any]]:
    """Agent and baselines, one row each."""
    decimals = formatting.score_decimals(results.policies)
    return [
        {
            "policy": p.policy,
            "mean return": _rounded(p.mean_return),
            "95 % from": _rounded(p.interval.low) if p.interval else None,
            "95 % to": _rounded(p.interval.high) if p.interval else None,
            "interval over": formatting.over(p, decimals),
        }
        for p in results.policies
    ] + [
        {
            "metric": m.metric,
            "mean": _rounded(m.mean),
            "95 % from": _rounded(m.interval.low) if m.interval else None,
            "95 % to": _rounded(m.interval.high) if m.interval else None,
            "over": formatting.over_seeds(m),
        }
        for m in results.metrics
    ]


def _rounded(value: float) -> float | None:
    # NaN would silently become null anyway; say so ourselves.
    return float(f"{value:.6g}") if value == value else None


def _table(results: ExperimentResults) -> None:
    create_table_artifact(
        rows(results) or [{"policy": "none was evaluated"}],
        key=artifact_key("results", results.name),
        description=f"Final evaluation of {results.name}: mean return an episode",
    )


def _curve(
    mailbox: Mailbox, results: ExperimentResults, verdict: str, links: dict[str, str]
) -> None:
    from drillyard.mailbox.store import ObjectMissing

    parts = [f"## {results.name}", verdict]
    try:
        picture = mailbox.store.get(mailbox.key("report/learning_curve.png"))
    except ObjectMissing:
        parts.append("There is no learning curve.")
    else:
        if len(picture) <= MAX_PICTURE_BYTES:
            data = base64.b64encode(picture).decode()
            parts.append(f"![Learning curve: return over steps](data:image/png;base64,{data})")
        else:
            parts.append("The learning curve is too large for this page; it is in the report.")
    runs = [
        f"| {r.run} | {r.status} | {r.step:,} | {formatting.count(r.steps_per_s)} | {r.resumes} |"
        for r in results.runs[:MOST_RUNS]
    ]
    head = ["| run | status | steps | steps/s | resumes |", "|---|---|---|---|---|"]
    parts.append("\n".join([*head, *runs]))
    if len(results.runs) > MOST_RUNS:
        parts.append(f"and {len(results.runs) - MOST_RUNS:,} more runs, all in the report")
    parts += [f"**{title}**: {text}" for title, text in links.items()]
    create_markdown_artifact(
        "\n\n".join(parts),
        key=artifact_key("learning-curve", results.name),
        description=f"Learning curve of {results.name}",
    )


def _links(driver: Driver, report: str | None) -> dict[str, str]:
    """An artifact each for the report and MLflow.

    Returns:
        The same as markdown, by title.
    """
    from drillyard.tracking.uris import mask, resolve_uri

    name, store = driver.mailbox.experiment, driver.mailbox.store.url
    found: dict[str, str] = {}
    uri = resolve_uri(driver.loaded.spec.tracking.mlflow, store)
    if report:
        how = f"`drillyard report {name} --store {store} --open` opens it"
        found["Report"] = _link(
            "report",
            name,
            address(driver, report),
            f"Report of {name}",
            f"`{report}` ({how} on that machine)",
        )
    if uri is not None:
        shown = _page(driver) or mask(uri)
        how = f"`mlflow ui --backend-store-uri {shown}` shows it"
        found["MLflow"] = _link("mlflow", name, shown, f"Tracking of {name}", how)
    found["Log"] = f"on the page of this flow run; whole: `drillyard logs {name} --store {store}`"
    return found


def _link(kind: str, name: str, address: str, description: str, otherwise: str) -> str:
    """A link where a browser can follow it, what to type where it cannot; as markdown."""
    key = artifact_key(kind, name)
    if address.startswith(("http://", "https://")):
        # The address itself is longer than the column of the page in which it stands.
        create_link_artifact(address, link_text=description, key=key, description=description)
        return f"[open]({address})"
    create_markdown_artifact(otherwise, key=key, description=description)
    return otherwise

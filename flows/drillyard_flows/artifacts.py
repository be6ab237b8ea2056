"""Results in Prefect's UI: a table, the learning curve, links to MLflow and to the report.

Open pages of Prefect do not refresh; MLflow and TensorBoard show live curves. A picture goes into
markdown as a data URI, because the image artifact prints the whole URI as text. Browsers block
links from a served page to a local file, so files are shown as paths to copy.
"""

from __future__ import annotations

import base64
import logging

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from drillyard.driver.driver import Driver
from drillyard.mailbox import Mailbox
from drillyard.results import collect, formatting
from drillyard.results.model import ExperimentResults
from drillyard.system.tables import Table
from drillyard_tasks.publisher import artifact_key

MAX_PICTURE_BYTES = 600_000
"""Prefect stores the picture in its database and sends it each time the page is opened."""
MOST_RUNS = 200
log = logging.getLogger(__name__)


def publish(driver: Driver, report: str | None) -> str:
    """Shows results in Prefect.

    Errors are logged and not raised: they must not fail an experiment whose results are stored.

    Args:
        driver: Driver of the experiment.
        report: Location of the report, if it was built.

    Returns:
        The result in one sentence.
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
    """Returns the address of the report: at MLflow's server if there is one, to which it is sent.

    Args:
        driver: Driver of the experiment.
        report: Path of the report in the store, returned if there is no server.
    """
    page = _page(driver)
    return f"{page}/artifacts/report/index.html" if page else report


def _page(driver: Driver) -> str | None:
    """Returns the experiment's page at MLflow's server, once the experiment was mirrored."""
    from drillyard.tracking.sync_state import Notes
    from drillyard.tracking.uris import resolve_uri

    mailbox = driver.mailbox
    uri = resolve_uri(driver.loaded.spec.tracking.mlflow, mailbox.store.url)
    return Notes(mailbox, uri).page() if uri is not None else None


def rows(results: ExperimentResults) -> list[dict[str, str | float | None]]:
    """Returns one row for the agent and for each baseline."""
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
    # NaN would silently become null.
    return float(f"{value:.6g}") if value == value else None


def _table(results: ExperimentResults) -> None:
    create_table_artifact(
        rows(results) or [{"policy": "none was evaluated"}],
        key=artifact_key("results", results.name),
        description=f"Final evaluation of {results.name}: mean return per episode",
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
    table = Table("runs", results.runs[:MOST_RUNS])
    table.text("run", lambda r: r.run).text("status", lambda r: r.status)
    table.number("steps", lambda r: r.step)
    table.number("steps/s", lambda r: formatting.count(r.steps_per_s))
    parts.append(table.number("resumes", lambda r: r.resumes).markdown())
    if len(results.runs) > MOST_RUNS:
        parts.append(f"and {len(results.runs) - MOST_RUNS:,} more runs, all in the report")
    parts += [f"**{title}**: {text}" for title, text in links.items()]
    create_markdown_artifact(
        "\n\n".join(parts),
        key=artifact_key("learning-curve", results.name),
        description=f"Learning curve of {results.name}",
    )


def _links(driver: Driver, report: str | None) -> dict[str, str]:
    """Creates an artifact each for the report and for MLflow.

    Returns:
        The same links as markdown, by title.
    """
    from drillyard.tracking.uris import mask, resolve_uri

    name, store = driver.mailbox.experiment, driver.mailbox.store.url
    links: dict[str, str] = {}
    uri = resolve_uri(driver.loaded.spec.tracking.mlflow, store)
    if report:
        how = f"open it with `drillyard report {name} --store {store} --open`"
        links["Report"] = _link(
            "report",
            name,
            address(driver, report),
            f"Report of {name}",
            f"`{report}` ({how} on that machine)",
        )
    if uri is not None:
        page = _page(driver) or mask(uri)
        how = f"open it with `mlflow ui --backend-store-uri {page}`"
        links["MLflow"] = _link("mlflow", name, page, f"Tracking of {name}", how)
    links["Log"] = (
        f"on the page of this flow run; complete: `drillyard logs {name} --store {store}`"
    )
    return links


def _link(kind: str, name: str, address: str, description: str, otherwise: str) -> str:
    """Creates a link if a browser can open it, or else the command to type. Returns markdown."""
    key = artifact_key(kind, name)
    if address.startswith(("http://", "https://")):
        # The address itself is wider than its column of the page.
        create_link_artifact(address, link_text=description, key=key, description=description)
        return f"[open]({address})"
    create_markdown_artifact(otherwise, key=key, description=description)
    return otherwise

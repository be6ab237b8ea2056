"""A new user's morning: servers up, a run from the form, its progress, the alert, the report.

With ``PICTURES=docs/pictures`` the pages are written there, for docs/how-to/operations.md.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.helpers.pages import browser, fill_in, log_in, picture
from tests.helpers.patience import until
from tests.helpers.yard import Yard, down, yard

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(3600)]
NAME = "cstr-ppo"


@pytest.fixture
def team(tmp_path):
    """``drillyard up`` and ``drillyard deploy``, in a folder that is empty."""
    with yard(tmp_path / "team") as made:
        yield made


@pytest.fixture
def pictures(tmp_path):
    return Path(os.environ.get("PICTURES") or tmp_path / "pictures").resolve()


def shows(page: Page, text: str | re.Pattern[str]) -> None:
    # Prefect's pages keep hidden copies, of tags that do not fit for one.
    expect(page.get_by_text(text).locator("visible=true").first).to_be_visible()


def seen(page: Page, text: re.Pattern[str]) -> bool:
    """Whether it is on the page by the time that it has loaded."""
    page.wait_for_load_state("networkidle")
    return page.get_by_text(text).count() > 0


def test_a_new_users_morning(team, chromium, pictures):
    with browser(chromium, team.environ) as page:
        log_in(page, team.ui, team.environ["PREFECT_API_AUTH_STRING"])
        page.get_by_role("link", name="Deployments").click()
        for text in ("nightly", "hourly", "experiment", "study", "reap"):
            shows(page, text)
        picture(page, pictures / "deployments.png")

        deployment = team.deployment("experiment")
        fill_in(
            page, team.ui, deployment, Experiment="cstr/ppo", Seeds="2", Training_steps="100000"
        )
        picture(page, pictures / "form.png")
        asked = {"deployments": {"id": {"any_": [deployment]}}}

        def submitted() -> list[dict[str, Any]]:
            # A busy SQLite refuses now and then (503), and a person clicks again.
            button = page.get_by_role("button", name="Submit")
            if button.is_visible():
                button.click()
            page.wait_for_timeout(20_000)
            return list(team.api.post("/flow_runs/filter", asked))

        run = until(submitted, what="a flow run")[0]
        assert (run["parameters"]["seeds"], run["parameters"]["steps"]) == (2, 100_000)

        # Its lines come with a reload, and the page has only the lines that it shows.
        far = re.compile(r"t0001-s1 (train: [\d,]+ of 100,000 steps|\| checkpoint at step \d+)")

        def line_of_progress() -> bool:
            page.goto(f"{team.ui}/v2/runs/flow-run/{run['id']}")
            page.wait_for_load_state("networkidle")
            if page.locator("input[type=password]").is_visible():
                # A page that is left while it loads may forget who has logged in.
                log_in(page, team.ui, team.environ["PREFECT_API_AUTH_STRING"])
                return False
            return seen(page, far)

        until(line_of_progress, what="a line of progress", every_s=3.0)
        picture(page, pictures / "running.png")
        page.get_by_role("tab", name="Details").click()
        for text in (NAME, f"experiment:{NAME}", "backend:local", "algorithm:ppo"):
            shows(page, text)
        assert set(progress(team, run["id"])) == {f"progress-{NAME}-t0001-s{n}" for n in (1, 2)}

        told = team.alert(f"{NAME} is finished")
        assert "The agent reaches a mean return of" in told["text"]
        assert team.ended(run["id"])["state"]["type"] == "COMPLETED"
        page.reload()
        shows(page, "Completed")
        page.get_by_role("tab", name="Task Runs").click()
        expect(page.get_by_role("link", name="teardown", exact=True)).to_be_visible()
        picture(page, pictures / "finished.png")

        found = team.api.artifacts({"id": run["id"]})
        assert progress(team, run["id"]) == {f"progress-{NAME}-t0001-s{n}": 100 for n in (1, 2)}
        for key, text, file in (
            (f"results-{NAME}", "mean return", "results.png"),
            (f"learning-curve-{NAME}", "The agent reaches a mean return of", "curve.png"),
        ):
            page.goto(f"{team.ui}/v2/artifacts/artifact/{found[key]['id']}")
            shows(page, text)
            picture(page, pictures / file)

        # The alert links to the report at MLflow's server, and so does the page of the artifact.
        page.goto(f"{team.ui}/v2/artifacts/artifact/{found[f'report-{NAME}']['id']}")
        link = page.get_by_role("link", name=f"Report of {NAME}")
        assert link.get_attribute("href") == report_of(told["text"])
        page.goto(report_of(told["text"]))
        inside = page.frame_locator("iframe")
        expect(inside.get_by_text("The agent reaches a mean return of").first).to_be_visible()
        picture(page, pictures / "report.png")

    team.nothing_left(NAME)
    said = down(team.bench, team.stack.folder)
    for member in ("worker", "mlflow", "prefect"):
        assert f"{member}: stopped" in said
    assert all(not (team.stack.process(name)) for name in ("worker", "mlflow", "prefect"))


def progress(team: Yard, run: str) -> dict[str, float]:
    """Per cent of each progress artifact."""
    return {
        key: float(artifact["data"])
        for key, artifact in team.api.artifacts({"id": run}).items()
        if key.startswith("progress-")
    }


def report_of(text: str) -> str:
    found = re.search(r"Report: (http\S+/artifacts/report/index.html)", text)
    assert found is not None, text
    return found[1]

"""Prefect's and MLflow's pages in a browser, as the person sees them who started the servers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tests.helpers.patience import PATIENCE_S

PATIENCE_MS = 1000 * PATIENCE_S
SIZE = {"width": 1280, "height": 800}


@contextmanager
def browser(chromium: str, environ: dict[str, str]) -> Iterator[Page]:
    """A page that knows MLflow's password; Prefect asks for its own on a page."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium,
            timeout=PATIENCE_MS,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        context = started.new_context(
            viewport=SIZE,  # type: ignore[arg-type]
            http_credentials={
                "username": environ["MLFLOW_TRACKING_USERNAME"],
                "password": environ["MLFLOW_TRACKING_PASSWORD"],
                "origin": environ["MLFLOW_TRACKING_URI"],
            },
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        yield page
        started.close()


def log_in(page: Page, ui: str, password: str) -> None:
    """Prefect's first page, and what is behind it."""
    page.goto(ui)
    page.locator("input[type=password]").fill(password)
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_role("link", name="Deployments")).to_be_visible()


def fill_in(page: Page, ui: str, deployment: str, **texts: str) -> None:
    """Open the form of a deployment and type into it.

    Args:
        page: Logged in.
        ui: Prefect's address.
        deployment: Its id.
        **texts: Title of a field, blanks as underscores, -> what is typed.
    """
    page.goto(f"{ui}/v2/deployments/deployment/{deployment}/run")
    expect(page.get_by_role("button", name="Submit")).to_be_visible()
    _type(page, texts)


def make_block(page: Page, ui: str, kind: str, **texts: str) -> None:
    """Keep settings of a backend under a name: as ``fill_in``, in the form of its block type."""
    page.goto(f"{ui}/v2/blocks/catalog/drillyard-{kind}/create")
    expect(page.get_by_role("button", name="Save")).to_be_visible()
    _type(page, texts)
    page.get_by_role("button", name="Save").click()


def _type(page: Page, texts: Mapping[str, str]) -> None:
    for title, text in texts.items():
        label = page.get_by_text(re.compile(rf"^{title.replace('_', ' ')}( \(Optional\))?$"))
        field = label.locator(
            "xpath=following::*[self::input or self::textarea or @role='textbox'][1]"
        )
        field.fill(text)


def cancel(page: Page, ui: str, run: str) -> None:
    """Cancel a flow run by its menu, and say that one is sure."""
    page.goto(f"{ui}/v2/runs/flow-run/{run}")
    page.get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name="Cancel").click()
    page.get_by_role("button", name="Cancel Flow Run").click()
    expect(page.get_by_text(re.compile("Flow run.* cancelled"))).to_be_visible()


def picture(page: Page, path: Path) -> None:
    """What is on the page now, as a small PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(2000)  # graphs move to their places
    page.screenshot(path=path)
    with Image.open(path) as image:
        image.convert("RGB").quantize(128).save(path, optimize=True)

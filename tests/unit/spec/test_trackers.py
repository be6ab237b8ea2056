"""Trackers in an experiment's file: what is refused, and what the author is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.spec.load import load
from tests.helpers.refusals import refusals

BASE = "schema: 1\nname: t\nworkload: mock\nbackend: local\nseeds: [1]\nmock: {points: 10}\n"


def refused(tmp_path: Path, tracking: str) -> dict[str, str]:
    file = tmp_path / "t.yaml"
    file.write_text(f"{BASE}tracking: {tracking}\n")
    return {str(e.field): str(e.but(shows_fix=True)) for e in refusals(load, file)}


def test_everything_that_cannot_be_is_said_at_once(tmp_path):
    said = refused(
        tmp_path, "{wandb: a/b/c, csv: 's3://bucket', plugins: {no-such: x}, mlflow: ftp://x}"
    )
    assert set(said) == {
        "tracking.wandb",
        "tracking.csv",
        "tracking.plugins",
        "tracking.mlflow",
    }
    assert "entity/project" in said["tracking.wandb"]
    assert "no-such" in said["tracking.plugins"] and "list trackers" in said["tracking.plugins"]


def test_a_built_in_has_its_own_field(tmp_path):
    said = refused(tmp_path, "{plugins: {wandb: team/project}}")
    assert "tracking: {wandb: …}" in said["tracking.plugins"]


@pytest.mark.parametrize("project", ["reactor", "my-team/reactor", "my team's reactor"])
def test_projects_of_wandb(tmp_path, project):
    file = tmp_path / "t.yaml"
    file.write_text(f'{BASE}tracking: {{wandb: "{project}"}}\n')
    assert load(file).spec.tracking.wandb == project

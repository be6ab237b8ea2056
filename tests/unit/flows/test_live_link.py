"""The live page that a command serves, and the artifact that leads to it."""

from __future__ import annotations

import urllib.request
from typing import Any

import prefect.artifacts
import pytest

from drillyard_flows import live
from tests.helpers.fixtures_store import write_experiment


@pytest.mark.heavy
def test_a_command_serves_the_page_while_it_works(tmp_path):
    box = write_experiment(tmp_path, seeds=(1,))
    said: list[str] = []
    with live.served(box, said.append) as url:
        assert url is not None and said == [f"live page: {url}"]
        with urllib.request.urlopen(f"{url}state") as answer:
            assert b"t0001-s1" in answer.read()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url)


@pytest.mark.heavy
def test_a_machine_without_a_loopback_address_runs_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("drillyard.report.live.server.HOST", "203.0.113.1")
    with live.served(write_experiment(tmp_path, seeds=(1,)), print) as url:
        assert url is None


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1/watch/cstr-ppo/"])
def test_prefect_links_to_it_or_names_the_command(tmp_path, monkeypatch, url):
    made: list[Any] = []

    def create(*words: str, **more: str) -> None:
        made.append((*words, *more.values()))

    for kind in ("link", "markdown"):
        monkeypatch.setattr(prefect.artifacts, f"create_{kind}_artifact", create)
    box = write_experiment(tmp_path, seeds=(1,))
    token = live.LIVE.set(url)
    try:
        live.link(box)
    finally:
        live.LIVE.reset(token)
    ((first, *rest),) = made
    assert f"drillyard watch cstr-ppo --store {tmp_path}" in f"{first} {rest}"
    assert url is None or first == url

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("the API is away")

    for kind in ("link", "markdown"):
        monkeypatch.setattr(prefect.artifacts, f"create_{kind}_artifact", fails)
    live.link(box)  # raises nothing

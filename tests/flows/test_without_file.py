"""``drillyard run -a ppo -s CartPole-v1``: a report without a file, which is there afterwards."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.flows.conftest import DRILLYARD
from tests.helpers.processes import run_process


def drillyard(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_process(
        [DRILLYARD, *words], cwd=folder, more={"DRILLYARD_STORE": str(folder / "store")}
    )


def test_a_report_without_a_file_and_the_same_command_again(tmp_path):
    words = ["run", "-a", "ppo", "-s", "CartPole-v1", "--steps", "1k", "--seeds", "2"]

    done = drillyard(tmp_path, *words)

    assert done.returncode == 0, done.stdout + done.stderr
    file = tmp_path / "cartpole-v1-ppo.yaml"
    assert f"wrote {file}" in done.stdout
    assert len(file.read_text().splitlines()) < 25
    assert (tmp_path / "store" / "cartpole-v1-ppo" / "report" / "index.html").is_file()
    assert "t0001-s1" in done.stdout and "t0001-s2" in done.stdout
    for again in (words, ["run", file.name]):
        repeated = drillyard(tmp_path, *again)
        assert "nothing to do" in repeated.stderr, repeated.stderr
        assert f"wrote {file}" not in repeated.stdout
        assert (again is words) == (f"runs {file}, which it wrote before" in repeated.stdout)
    # One document on stdout, for programs.
    answer = drillyard(tmp_path, *words, "--json")
    assert json.loads(answer.stdout) and "wrote" in answer.stderr
    edited = file.read_text().replace("1_000", "500")
    file.write_text(edited)
    refused = drillyard(tmp_path, *words)
    assert refused.returncode == 2 and "drillyard run cartpole-v1-ppo.yaml" in refused.stderr
    assert file.read_text() == edited

"""``check`` of a script says which files travel to the workers, and which stay."""

import json

from drillyard.cli.main import main
from drillyard.runs import code_archive

SCRIPT = """
schema: 1
name: files
workload: script
seeds: [1]
script:
  run: [python work.py]
  results: {stdout: '^(\\w+)=(\\S+)$'}
"""


def test_check_says_what_travels_and_what_stays(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files.yaml").write_text(SCRIPT)
    (tmp_path / "work.py").write_text("print(open('mesh.inp').read())")
    (tmp_path / "mesh.inp").write_text("score=1")
    (tmp_path / "notes.log").write_text("no")
    (tmp_path / ".env").write_text("no")
    (tmp_path / ".gitignore").write_text("*.log\n")
    assert main(["check", "files.yaml", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    (said,) = [one["message"] for one in findings if "travel" in one["message"]]
    travels, stays = said.split("What stays: ")
    assert "2 files travel" in travels and "of at most 67" in travels
    assert "mesh.inp" in travels and "work.py" in travels and "log" not in travels
    assert "notes.log (.gitignore:1: *.log)" in stays and ".env (hidden)" in stays
    monkeypatch.setattr(code_archive, "MAX_BYTES", 10)
    assert main(["check", "files.yaml"]) == 2
    assert "too large to send to workers" in capsys.readouterr().out

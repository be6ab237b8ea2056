"""The frame of the command line: quick help, exit codes, one place for errors, plug-ins."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from drillyard import registry
from drillyard.cli import exit_codes, main
from drillyard.errors import (
    Bug,
    ConfigError,
    ExitCode,
    RunFailed,
    Stopped,
    StoreUnavailable,
    TeardownUnconfirmed,
    UserError,
)
from tests.helpers import rules
from tests.helpers.processes import run_process

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
HEAVY = ["torch", "prefect", "mlflow", "gymnasium", "matplotlib", "scipy", "pydantic", "numpy"]
HEAVY += ["rich", "ruamel", "stable_baselines3", "drillyard.mailbox", "optuna"]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ("check", "explain", "schema", "doctor", "list", "run")),
        (["run", "--help"], ("--seeds", "--steps")),
    ],
    ids=["whole", "one command"],
)
def test_help_imports_nothing_heavy(arguments, words):
    code = (
        f"import sys\nfrom drillyard.cli.main import main\nassert main({arguments!r}) == 0\n"
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = run_process([sys.executable, "-c", code], check=True)
    assert "HEAVY []" in done.stdout
    assert all(word in done.stdout for word in words)


PLACE: Any = {"file": "a.yaml", "line": 3, "field": "x.y"}


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            ConfigError("is odd", **PLACE, value=5, allowed="1 to 4", hint="write 4"),
            2,
            ["error: a.yaml:3: x.y: is odd (got 5); allowed: 1 to 4", "fix: write 4"],
        ),
        (UserError("no", hint="so"), 2, ["error: no", "fix: so"]),
        (RunFailed("it broke"), 1, ["error: it broke"]),
        (StoreUnavailable("full"), 4, ["error: full"]),
        (TeardownUnconfirmed("left", hint="reap"), 4, ["next: reap"]),
        (Stopped("at step 5", hint="resume it"), 130, ["stopped: at step 5", "next: resume"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
        (OSError(28, "No space left on device"), 4, ["No space left"]),
        (ConnectionRefusedError("refused"), 4, ["refused"]),
        (Bug("impossible"), 3, ["this is a bug in drillyard"]),
        (ZeroDivisionError("x"), 3, ["this is a bug in drillyard", "report it with"]),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else None,
)
def test_exit_codes(error, code, words, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def build(arguments):
        app = typer.Typer()

        @app.command()
        def fail(json: bool = False) -> None:
            raise error

        return app, {}

    monkeypatch.setattr(main, "build", build)
    assert main.main([]) == code
    out = capsys.readouterr()
    assert out.out == ""
    for word in words:
        assert word in out.err
    assert "Traceback" not in out.err
    assert main.main(["--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == code
    reports = list(tmp_path.glob("drillyard-bug-*"))
    assert bool(reports) == (code == ExitCode.BUG)
    if reports:
        assert type(error).__name__ in reports[0].read_text()


def test_secrets_are_masked_in_errors(capsys):
    exit_codes.report(UserError("at http://me:hunter2@host", hint="token=abcdefgh"))
    exit_codes.report(ConfigError("is odd", field="a.password", value="hunter2x"))
    text = capsys.readouterr().err
    assert "hunter2" not in text
    assert "abcdefgh" not in text
    assert "a.password: is odd (got '***')" in text


def test_usage_errors(capsys):
    assert main.main(["chek"]) == 2
    assert "Did you mean" in capsys.readouterr().err
    assert main.main(["check"]) == 2
    assert "Missing argument" in capsys.readouterr().err
    assert main.main(["check", "x.yaml", "--jsno"]) == 2
    assert "did you mean 'json'" in capsys.readouterr().err
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("drillyard 0.")


@pytest.mark.heavy
def test_check_answers_with_its_findings(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.main(["check", str(EXPERIMENTS / "cartpole.yaml"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"]
    subjects = {f["subject"] for f in answer["findings"]}
    assert {"file", "budget", "store", "preset", "backend local"} <= subjects
    assert any("steps/s" in f["message"] for f in answer["findings"])
    assert list(tmp_path.iterdir()) == []


def test_explain(capsys, tmp_path):
    (tmp_path / "a.yaml").write_text(
        "name: x\nsimulator: {id: cstr, args: {}}\nlearner: {algorithm: ppo}\n"
        "train: {steps: $horizon}\nparameters: {const_args: {horizon: 10_000}}\n"
    )
    words = ["explain", str(tmp_path / "a.yaml"), "--set", "seeds=[3, 4]", "--horizon", "20_000"]
    assert main.main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["values"]["train.steps"] == {
        "value": 20_000,
        "from": "--horizon through $horizon",
    }
    assert answer["values"]["seeds"] == {"value": [3, 4], "from": "--set"}
    assert [r["run"] for r in answer["runs"]] == ["t0001-s3", "t0001-s4"]
    assert main.main(words) == 0
    text = capsys.readouterr().out
    assert "--horizon through $horizon" in text
    assert "2 runs (t0001-s3, t0001-s4)" in text


def test_schema_describes_every_field(capsys, tmp_path):
    assert main.main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["title"] == "drillyard experiment"
    assert "ppo" in schema["$defs"]["LearnerSpec"]["properties"]["algorithm"]["examples"]
    bare = [
        f"{name}.{field}"
        for name, body in {"": schema, **schema["$defs"]}.items()
        for field, value in body.get("properties", {}).items()
        if "description" not in {**schema["$defs"].get(value.get("$ref", "")[8:], {}), **value}
    ]
    assert bare == []
    assert main.main(["schema", "-o", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text()) == schema


@pytest.mark.parametrize("file", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda f: f.stem)
def test_the_schema_takes_every_example_and_no_slip(file):
    from jsonschema import Draft202012Validator
    from ruamel.yaml import YAML

    from drillyard.spec.schema import document

    check = Draft202012Validator(document())
    tree = YAML(typ="safe").load(file.read_text())
    assert [f"{e.json_path}: {e.message}" for e in check.iter_errors(tree)] == []
    parts = [tree[k] for k in ("bench", "simulator", "mock", "script") if tree.get(k)]
    (parts or [tree])[0]["slip"] = 1
    assert not check.is_valid(tree)


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("algorithms", "ppo"),
        ("simulators", "cstr"),
        ("baselines", "hold"),
        ("backends", "local"),
        ("workloads", "rl"),
        ("stores", "file"),
        ("choosers", "tpe"),
        ("commands", "deploying"),
        ("endpoints", "azure"),
        ("rehearsals", "gcp"),
        ("presets", "cartpole/ppo"),
        ("statuses", "TIMED_OUT"),
    ],
)
def test_list_prints_a_table_or_json(what, name, capsys):
    assert main.main(["list", what, "--json"]) == 0
    assert name in [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert main.main(["list", what]) == 0
    assert name in capsys.readouterr().out


def test_each_kind_of_plug_in_can_be_listed(capsys):
    assert main.main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    for kind in registry.KINDS:
        names = listed["algorithms" if kind == "learners" else kind]
        assert names == registry.names(kind), kind


def test_doctor(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert main.main(["doctor", "--json", "--store", str(tmp_path / "s")]) == 4
    answer = json.loads(capsys.readouterr().out)
    found = {f["subject"]: f for f in answer["findings"]}
    assert found["prefect api"]["severity"] == "error"
    assert "PREFECT_API_URL" in found["prefect api"]["fix"]
    assert found["torch"]["severity"] == "ok"
    assert found["backend local"]["severity"] == "ok"
    monkeypatch.delenv("PREFECT_API_URL")
    assert main.main(["doctor", "--store", str(tmp_path / "s")]) == 0
    assert "not configured" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def plug_in(folder, name, module, group="drillyard.commands"):
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:register\n")


@pytest.mark.heavy
def test_plug_ins_join_and_a_broken_one_takes_only_itself_away(tmp_path):
    (tmp_path / "hello_plugin.py").write_text(
        "import typer\ndef register(app):\n    app.command('hello')(hello)\n"
        "def hello():\n    typer.echo('hello from outside')\n"
    )
    (tmp_path / "sad_plugin.py").write_text("import no_such_thing\n")
    plug_in(tmp_path, "hello-plugin", "hello_plugin")
    plug_in(tmp_path, "sad-plugin", "sad_plugin")

    def run(*words):
        code = "import sys; from drillyard.cli.main import main; sys.exit(main())"
        env = {"PYTHONPATH": rules.path(tmp_path), "PATH": "", "HOME": str(tmp_path)}
        return run_process([sys.executable, "-c", code, *words], cwd=tmp_path, env=env)

    assert run("hello").stdout == "hello from outside\n"
    missing = run("sad")
    assert missing.returncode == 2
    assert "plug-in 'sad-plugin' did not load" in missing.stderr
    rows = {r["name"]: r for r in json.loads(run("list", "plugins", "--json").stdout)}
    assert rows["hello-plugin"]["problem"] is None
    assert "no_such_thing" in rows["sad-plugin"]["problem"]
    assert "Traceback" in rows["sad-plugin"]["problem"]


def test_reading_makes_no_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    from drillyard.runs.locate import open_mailbox

    with pytest.raises(UserError, match="no store"):
        open_mailbox("x")
    assert list(tmp_path.iterdir()) == []
    from drillyard.runs.locate import store_url

    monkeypatch.setenv("DRILLYARD_STORE", "file:///etc/x")
    with pytest.raises(ConfigError, match="system"):
        store_url(None)


@pytest.mark.heavy
def test_ctrl_c_while_the_command_line_is_imported():
    code = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from drillyard.cli.start import main\nsys.exit(main())"
    )
    done = run_process([sys.executable, "-c", code])
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_list_alone_lists_everything_briefly(capsys):
    assert main.main(["list"]) == 0
    text = capsys.readouterr().out
    assert "a2c, appo, ars, crossq" in text
    assert "drillyard list KIND" in text
    assert main.main(["list", "--json"]) == 0
    assert "local" in json.loads(capsys.readouterr().out)["backends"]
    assert main.main([]) == 2
    said = capsys.readouterr()
    assert "error" not in said.err
    assert "Usage: drillyard" in said.err


def test_check_and_explain_take_a_name_as_run_does(capsys, tmp_path):
    file = str(EXPERIMENTS / "mock.yaml")
    assert main.main(["explain", file, "--name", "other", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "other"
    assert main.main(["check", file, "--name", "other", "--json", "--store", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "other"


def test_schema_speaks_json_to_programs(capsys, tmp_path):
    assert main.main(["schema", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "drillyard experiment"
    out = str(tmp_path / "s.json")
    assert main.main(["schema", "--json", "--out", out]) == 0
    assert json.loads(capsys.readouterr().out) == {"wrote": out}

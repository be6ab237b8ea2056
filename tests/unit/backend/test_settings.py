"""Backend settings: one order, all missing at once, secrets never seen."""

import json
import os
import stat
from typing import ClassVar

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from typer.testing import CliRunner

from drillyard import registry
from drillyard.backend import open_backend
from drillyard.backend.settings import references
from drillyard.backend.settings import resolve as settings
from drillyard.backend.settings.experiment import settings_of
from drillyard.backend.settings.write import write
from drillyard.cli.main import build
from drillyard.errors import ConfigError, ConfigErrors

SECRET = "correct-horse-battery"


class CloudConfig(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="DRILLYARD_CLOUDY_", extra="forbid")

    project: str = Field(description="The project that pays.")
    zone: str = Field(description="Where machines stand.")
    size: int = Field(4, ge=1, description="Cores of a machine.")
    labels: dict[str, str] = Field(default_factory=dict, description="On every machine.")
    token: SecretStr | None = Field(None, description="For the API.")


class Cloud:
    kind = "cloudy"
    Config: ClassVar = CloudConfig

    def __init__(self, **given):
        self.config = CloudConfig(**given)


class FakeBlocks:
    """In place of Prefect; tests/flows has the real one."""

    def settings(self, kind, name):
        if name != "prod":
            raise ConfigError(f"no block {name}")
        return {"size": 16, "zone": "block-zone", "token": SECRET}, {"token"}

    def secret(self, name):
        return {"cloud-key": SECRET}[name]


@pytest.fixture(autouse=True)
def cloudy(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(registry, "_registrants", dict(registry._registrants))
    registry.register("backends", "cloudy", f"{__name__}:Cloud")
    for module in (settings, references):
        monkeypatch.setattr(module, "blocks", lambda shown: FakeBlocks())
    monkeypatch.setenv("DRILLYARD_CONFIG_DIR", str(tmp_path / "config"))
    for name in list(os.environ):
        if name.startswith("DRILLYARD_CLOUDY_"):
            monkeypatch.delenv(name)
    return tmp_path / "config"


def put(folder, text, name="config.yaml"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def invoke(*words, typed=None):
    result = CliRunner().invoke(build(words)[0], list(words), input=typed)
    return result


def test_every_place_in_its_order(cloudy, monkeypatch):
    """Each place gives `size` in turn; the others it does not decide stay with theirs."""
    put(cloudy, "backends: {cloudy: {project: filed, zone: filed, size: 2}}\n")
    found = settings.resolve("cloudy")
    assert found.values == {"project": "filed", "zone": "filed", "size": 2}
    assert found.origins["size"] == str(cloudy / "config.yaml")
    monkeypatch.setenv("DRILLYARD_CLOUDY_SIZE", "8")
    found = settings.resolve("cloudy")
    assert (found.values["size"], found.origins["size"]) == ("8", "DRILLYARD_CLOUDY_SIZE")
    found = settings.resolve("cloudy/prod")
    assert (found.values["size"], found.origins["size"]) == (16, "Prefect block prod")
    assert found.origins["project"] == str(cloudy / "config.yaml")
    found = settings.resolve("cloudy/prod", {"size": 32})
    assert (found.values["size"], found.origins["size"]) == (32, "experiment")
    assert open_backend("cloudy/prod", {"size": 32}).config.size == 32


def test_command_line_over_globals_over_file(cloudy, tmp_path, monkeypatch):
    """The first three places meet in the experiment's section."""
    from drillyard.spec.load import load

    monkeypatch.setenv("DRILLYARD_CLOUDY_PROJECT", "env")
    (tmp_path / "e.yaml").write_text(
        "name: e\nsimulator: {id: cstr}\nlearner: {algorithm: ppo}\ntrain: {steps: 10}\n"
        "backend: cloudy\nbackends: {cloudy: {project: file, zone: file, size: 1}}\n"
    )
    loaded = load(
        tmp_path / "e.yaml",
        sets=["backends.cloudy.size=7"],
        globals_=['{"backends": {"cloudy": {"zone": "globals", "size": 6}}}'],
    )
    found = settings.resolve(loaded.spec.backend, loaded.spec.backends["cloudy"])
    assert found.values == {"project": "file", "zone": "globals", "size": 7}
    assert loaded.provenance["backends.cloudy.size"] == "--set"
    assert settings_of(loaded.spec, "cloudy") == found.values


def test_all_missing_in_one_error_with_their_help(cloudy):
    with pytest.raises(ConfigError) as error:
        open_backend("cloudy")
    text = str(error.value)
    assert "2 required settings are missing" in text
    assert "project: The project that pays. (backends.cloudy.project, or " in text
    assert "zone: Where machines stand." in text and "DRILLYARD_CLOUDY_ZONE" in text
    assert "drillyard configure cloudy" in error.value.hint


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"projct": "x"}, "projct"),
        ({"token": SECRET}, "plain text"),
        ({"token": "env:NOT_THERE"}, "NOT_THERE"),
        ({"token": "file:/not/there"}, "/not/there"),
    ],
)
def test_bad_settings_are_refused_without_telling_secrets(cloudy, given, word):
    with pytest.raises((ConfigError, ConfigErrors)) as error:
        open_backend("cloudy", {"project": "p", "zone": "z", **given})
    assert word in str(error.value) and SECRET not in str(error.value) + str(error.value.hint)


def test_a_secret_is_a_reference_until_the_backend_is_made(cloudy, monkeypatch, tmp_path):
    base = {"project": "p", "zone": "z"}
    (tmp_path / "key").write_text(SECRET + "\n")
    monkeypatch.setenv("MY_KEY", SECRET)
    for reference in ("env:MY_KEY", "${env:MY_KEY}", f"file:{tmp_path}/key", "secret:cloud-key"):
        found = settings.resolve("cloudy", {**base, "token": reference})
        assert found.values["token"] == reference
        assert SECRET not in json.dumps(found.values)
        made = open_backend("cloudy", {**base, "token": reference})
        assert made.config.token.get_secret_value() == SECRET
    monkeypatch.setenv("DRILLYARD_CLOUDY_TOKEN", SECRET)
    from_environment = settings.resolve("cloudy", base)
    assert from_environment.values["token"] == "env:DRILLYARD_CLOUDY_TOKEN"
    monkeypatch.delenv("DRILLYARD_CLOUDY_TOKEN")
    from_block = settings.resolve("cloudy/prod", base)
    assert SECRET not in json.dumps(from_block.values)
    again = open_backend("cloudy", from_block.values)  # a reaper, from the order alone
    assert again.config.token.get_secret_value() == SECRET


def test_values_of_the_environment_are_typed(cloudy, monkeypatch):
    for name, value in {"PROJECT": "p", "ZONE": "z", "LABELS": '{"team": "a"}'}.items():
        monkeypatch.setenv(f"DRILLYARD_CLOUDY_{name}", value)
    assert open_backend("cloudy").config.labels == {"team": "a"}
    monkeypatch.setenv("DRILLYARD_CLOUDY_LABELS", "{")
    with pytest.raises(ConfigError, match="environment"):
        open_backend("cloudy")


def test_two_files_or_a_strange_one_are_refused(cloudy):
    put(cloudy, "backends: {cloudy: {size: 1}}\n")
    put(cloudy, "{}", "config.json")
    with pytest.raises(ConfigError, match="two settings files"):
        settings.resolve("cloudy")
    (cloudy / "config.json").unlink()
    for text in ("[1]", "backends: 3", "project: x", "backends: {cloudy: 3}"):
        put(cloudy, text)
        with pytest.raises(ConfigError):
            settings.resolve("cloudy")


def test_configure_asks_and_writes_for_its_owner_only(cloudy):
    answers = "my-project\nwest\nnone\n8\n\nplain-secret\nenv:MY_KEY\n"
    result = invoke("configure", "cloudy", typed=answers)
    assert result.exit_code == 0, result.output
    path = cloudy / "config.yaml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert settings.resolve("cloudy").values == {
        "project": "my-project",
        "zone": "west",
        "size": 8,
        "token": "env:MY_KEY",
    }
    assert "plain-secret" not in path.read_text()
    shown = invoke("configure", "cloudy", "--show").output
    assert "The project that pays." in shown and "size: 8" in shown and str(path) in shown
    rows = json.loads(invoke("configure", "cloudy", "--json").output)
    assert {r["name"]: r["from"] for r in rows}["labels"] == "default"


def test_configure_keeps_comments_and_other_backends(cloudy):
    put(
        cloudy,
        "# mine\nbackends:\n  local: {stop_grace_s: 3}   # short\n  cloudy:\n"
        "    zone: 'west'  # near\n    size: 2\n",
    )
    (cloudy / "config.yaml").chmod(0o644)
    write("cloudy", {"size": 9, "project": "p"})
    text = (cloudy / "config.yaml").read_text()
    for kept in ("# mine", "local: {stop_grace_s: 3}", "# short", "'west'", "# near", "size: 9"):
        assert kept in text
    assert stat.S_IMODE((cloudy / "config.yaml").stat().st_mode) == 0o600
    write("cloudy", {"size": None})
    assert "size" not in settings.resolve("cloudy").values
    assert not [p for p in cloudy.iterdir() if p.name != "config.yaml"]


def test_configure_writes_json_where_json_is(cloudy):
    put(cloudy, '{"backends": {"local": {"stop_grace_s": 3}}}', "config.json")
    write("cloudy", {"project": "p", "zone": "z"})
    tree = json.loads((cloudy / "config.json").read_text())
    assert tree["backends"] == {
        "local": {"stop_grace_s": 3},
        "cloudy": {"project": "p", "zone": "z"},
    }
    assert settings.resolve("cloudy").values["project"] == "p"


@pytest.mark.parametrize("given", ["size=many", "size=0", "nope=1", "size", f"token={SECRET}"])
def test_configure_refuses_what_does_not_fit(cloudy, given):
    result = invoke("configure", "cloudy", "--set", given)
    assert isinstance(result.exception, ConfigError)
    assert SECRET not in str(result.exception) and not cloudy.exists()


@pytest.mark.parametrize("kind", ["local", "dask", "ssh"])
def test_every_fault_of_the_settings_is_told_at_once(kind):
    from drillyard.registry import load

    with pytest.raises(ConfigErrors) as caught:
        load("backends", kind)(stop_grace_s=-1, runtim="/tmp")
    said = str(caught.value)
    assert f"backends.{kind}.stop_grace_s" in said and "got -1" in said
    assert f"backends.{kind}.runtim" in said
    assert [e.hint for e in caught.value.errors if "'runtime'" in str(e.hint)]


def test_a_refused_setting_names_where_it_comes_from(monkeypatch):
    """Also beside settings of the command line: the variable is what has to be mended."""
    monkeypatch.setenv("DRILLYARD_LOCAL_STOP_GRACE_S", "-1")
    with pytest.raises(ConfigError) as caught:
        open_backend("local", {})
    assert caught.value.file == "DRILLYARD_LOCAL_STOP_GRACE_S"
    with pytest.raises(ConfigError) as caught:
        open_backend("local", {"stop_grace_s": -1})
    assert caught.value.file is None


@pytest.mark.parametrize("command", ["check", "plan", "rehearse", "run", "bench"])
def test_a_backend_that_is_none_is_told_as_the_option_it_was(command):
    result = invoke(command, "experiments/mock.yaml", "--on", "aws")
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith("command line: --on: unknown backend 'aws'")


def test_an_option_that_is_none_is_refused_also_beside_a_simulator():
    result = invoke("check", "cstr", "--pictur", "a.svg")
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith("command line: --pictur: no such option")
    assert "picture" in str(result.exception.hint)


def test_one_setting_of_many_is_configured_or_refused_alone(cloudy):
    """Others that are required may still be missing; a form is told as what it is."""
    assert invoke("configure", "azure", "--set", "workspace=mine").exit_code == 0
    assert settings.gather("azure")[0].values["workspace"] == "mine"
    refused = invoke("configure", "azure", "--set", "vm_size=large").exception
    assert isinstance(refused, ConfigError) and "a size such as" in str(refused)


def test_one_host_without_brackets_is_told_how_a_list_is_written(cloudy):
    refused = invoke("configure", "ssh", "--set", "hosts=me@lab1").exception
    assert isinstance(refused, ConfigError) and "--set 'hosts=[me@lab1]'" in str(refused.hint)


def test_a_backend_that_is_not_ready_is_told_by_its_name(monkeypatch):
    """Not as a `--set` that nobody typed."""
    from drillyard.checks.refusal import placed
    from drillyard.findings import Finding, Severity
    from drillyard.spec.load import load

    loaded = load("experiments/mock.yaml", sets=["backend=local"])
    found = placed(Finding(Severity.ERROR, "backend local: quota", "is 0", "ask"), loaded)
    assert str(found.error) == "backend local: quota: is 0" and found.fix == "ask"

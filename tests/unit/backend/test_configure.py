"""``drillyard configure`` for every installed backend, by options and by answers."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from drillyard.backend.settings.resolve import fields_of, resolve, settings_file
from drillyard.cli.main import build
from drillyard.errors import ConfigError
from drillyard.registry import names

REQUIRED = {
    "local": {},
    "dask": {},
    "ssh": {"hosts": '["ann@one", "two:2222"]'},
    "gcp": {
        "project": "my-project-1",
        "bucket": "my-bucket",
        "service_account": "machines@my-project-1.iam.gserviceaccount.com",
    },
    "azure": {
        "subscription_id": "01234567-89ab-cdef-0123-456789abcdef",
        "resource_group": "robots",
        "workspace": "arms",
    },
}
"""Of each backend the settings that it cannot do without, as a person types them."""
BACKENDS = sorted(REQUIRED)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)  # no config.json of a workspace lies here
    return tmp_path / "config"


def invoke(*words: str, typed: str | None = None) -> Result:
    line = ["configure", *words]
    return CliRunner().invoke(build(line)[0], line, input=typed)


def defaults(kind: str) -> dict[str, str]:
    """Every setting that has a default, with that default as a person would type it."""
    found = {}
    for name, field in fields_of(kind).items():
        value = None if field.is_required() else field.get_default(call_default_factory=True)
        if value is not None:
            found[name] = value if isinstance(value, str) else json.dumps(value)
    return found


def test_the_table_has_every_backend_and_each_setting_that_it_needs():
    assert set(REQUIRED) == {kind for kind in names("backends") if kind in REQUIRED}
    installed = {"local", "dask", "ssh", "gcp", "azure"}
    assert installed <= set(names("backends"))
    for kind, given in REQUIRED.items():
        needed = {name for name, field in fields_of(kind).items() if field.is_required()}
        assert set(given) == needed


@pytest.mark.parametrize("kind", BACKENDS)
def test_each_setting_alone_by_an_option(kind):
    """Nothing else is there yet: what is still missing is no reason to refuse this one."""
    for name, text in {**REQUIRED[kind], **defaults(kind)}.items():
        path = settings_file()
        if path is not None:
            path.unlink()
        done = invoke(kind, "--set", f"{name}={text}")
        if text == "":  # which takes the setting out
            continue
        assert done.exit_code == 0, (name, done.output, done.exception)
        assert "wrote 1 setting" in done.output


@pytest.mark.parametrize("kind", BACKENDS)
def test_all_settings_by_options(kind):
    given = {**defaults(kind), **REQUIRED[kind]}
    sets = [word for name, text in given.items() for word in ("--set", f"{name}={text}")]
    done = invoke(kind, *sets)
    assert done.exit_code == 0, (done.output, done.exception)
    values = resolve(kind).values
    assert {name for name, text in given.items() if text} == set(values)


@pytest.mark.parametrize("kind", BACKENDS)
def test_all_settings_by_answers(kind):
    """A person types what is required, and Enter at the others."""
    answers = [REQUIRED[kind].get(name, "") for name in fields_of(kind)]
    done = invoke(kind, typed="\n".join(answers) + "\n")
    assert done.exit_code == 0, (done.output, done.exception)
    assert set(resolve(kind).values) == set(REQUIRED[kind])


@pytest.mark.parametrize(
    ("kind", "name", "wrong", "right", "said"),
    [
        ("gcp", "project", "X", "my-project-1", "the project's id"),
        ("gcp", "bucket", "gs://my-bucket", "my-bucket", "the name alone"),
        ("gcp", "service_account", "me", "a@b-c.iam.gserviceaccount.com", "NAME@PROJECT"),
        ("gcp", "zones", '["europe-west1"]', '["europe-west1-b"]', "is a region"),
        ("azure", "vm_size", "large", "Standard_F8s_v2", "a size such as"),
        ("ssh", "hosts", '["one", "one"]', '["one"]', "is listed twice"),
        ("dask", "address", "tcp://0.0.0.0:1", "tcp://127.0.0.1:8786", "servers listen on"),
        ("local", "stop_grace_s", "-1", "3", "greater than or equal to 0"),
    ],
)
def test_a_wrong_value_is_refused_in_words_and_asked_for_again(kind, name, wrong, right, said):
    refused = invoke(kind, "--set", f"{name}={wrong}").exception
    assert isinstance(refused, ConfigError), refused
    assert said in str(refused)
    assert refused.field == f"backends.{kind}.{name}"
    assert settings_file() is None
    lines: list[str] = []
    for one in fields_of(kind):
        lines += [wrong, right] if one == name else [REQUIRED[kind].get(one, "")]
    done = invoke(kind, typed="\n".join(lines) + "\n")
    assert done.exit_code == 0, (done.output, done.exception)
    assert said in done.output
    assert name in resolve(kind).values

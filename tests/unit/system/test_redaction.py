"""Twenty canaries: none of them comes out of a log, in whatever dress."""

import base64
import io
import logging

import pytest

from drillyard.errors import ConfigError
from drillyard.system.redaction import (
    is_secret_key,
    looks_secret,
    protect,
    redact,
    redact_tree,
    register_environment,
    register_secret,
)

C = "cAnArY0123456789abcd"
DRESSES = [
    f"password={C}",
    f"password: {C}",
    f"db_password = '{C}'",
    f'"api_key": "{C}"',
    f"{{'token': '{C}'}}",
    f"http://user:{C}@host/x",
    f"https://{C}@host",
    f"sk-{C}xx",
    f"ghp_{C}",
    f"Authorization: Bearer {C}",
    f"Authorization: Basic {C}",
    f"--token={C}",
    f"?sig={C}abc&x=1",
    f"AccountKey={C};",
    f"MY_SECRET={C}",
    f"client-secret={C}",
    f"connection_string='Server=x;Pwd={C}'",
    f"postgresql://me:{C}@db:5432/x",
    f"-----BEGIN RSA PRIVATE KEY-----\n{C}\n-----END RSA PRIVATE KEY-----",
    f"hf_{C}",
    f"access_key={C}",
    f"eyJ{C}.{C}.{C}",
]


@pytest.mark.parametrize("text", DRESSES)
def test_a_secret_is_hidden_in_every_form(text):
    assert C not in redact(f"before {text} after")


@pytest.mark.parametrize(
    "text",
    [
        "train.steps: out of range (got 0)",
        "tokenizer: bert",
        "n_tokens: 5",
        "secretary: Ann",
        "steps/s: 512",
        "see https://example.org/a@b",
        "api_key: ${env:API_KEY}",
        "mailto a@b.c",
        "checkpoint 20000 written in 0.1 s",
        "token: null",
    ],
)
def test_ordinary_text_stays(text):
    assert redact(text) == text


def test_keys():
    for key in (
        "password",
        "DB_PASSWORD",
        "apiKey",
        "api_key",
        "x-token",
        "aws_secret",
        "clientSecret",
        "credentials",
    ):
        assert is_secret_key(key), key
    for key in ("tokenizer", "n_tokens", "seed", "monkey", "keys", "secretary"):
        assert not is_secret_key(key), key


def test_registered_values_and_base64():
    secret = "plain words nobody would suspect"
    register_secret(secret)
    assert secret not in redact(f"it is {secret}!")
    for pad in ("", "a", "ab"):
        coded = base64.b64encode(f"{pad}{secret}{pad}".encode()).decode()
        assert coded not in redact(coded)
    register_secret("abc")
    assert redact("abc") == "abc"


def test_a_secret_in_a_long_value_is_hidden_before_the_value_is_cut():
    register_secret("a-secret-of-the-lab")
    said = str(ConfigError("is wrong", value=70 * "x" + "a-secret-of-the-lab" + 70 * "x"))
    assert "a-sec" not in said and "xxx***x" in said


def test_environment(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "value-of-the-environment")
    monkeypatch.setenv("DB", "postgres://me:userinfo-secret@h/x")
    register_environment()
    text = redact("value-of-the-environment userinfo-secret")
    assert "value-of-the-environment" not in text
    assert "userinfo-secret" not in text


def test_trees():
    tree = {"a": {"password": C, "list": [f"token={C}"]}, "b": 1, "api_key": "${env:X}"}
    clean = redact_tree(tree)
    assert C not in repr(clean)
    assert clean["b"] == 1
    assert clean["api_key"] == "${env:X}"
    assert looks_secret(f"sk-{C}")


def test_log_filter_covers_arguments_tracebacks_and_children():
    stream = io.StringIO()
    handler = protect(protect(logging.StreamHandler(stream)))
    assert len(handler.filters) == 1
    log = logging.getLogger("drillyard.test_redaction.child")
    log.addHandler(handler)
    log.propagate = False
    try:
        log.warning("with %s and %(x)s" if False else "with %s", f"password={C}")
        log.warning("broken %d", "password=" + C)
        try:
            raise ValueError(f"token={C}")
        except ValueError:
            log.exception("failed", stack_info=True)
        log.warning("dict %s", {"api_key": C})
    finally:
        log.removeHandler(handler)
    text = stream.getvalue()
    assert "ValueError" in text
    assert "***" in text
    assert C not in text


N = 500_000
"""Characters of a line. Masking in quadratic time would take hours."""


@pytest.mark.parametrize(
    "text",
    [
        "a" * N,
        "a." * (N // 2),
        "-token_" * (N // 7),
        "-eyJabcdefgh" * (N // 12),
        ".eyJabcdefgh" * (N // 12),
        "token=${ " * (N // 9),
        "token= " * (N // 7),
        "token=Bearer " * (N // 13),
        "token=\"'" * (N // 8),
        "a://a" * (N // 5),
        "a://a:" + "b:" * (N // 2),
        "ssh://" + "a" * N,
        "-----BEGIN " * (N // 11),
        "-----BEGIN A PRIVATE KEY----------END " * (N // 38),
        "sk-" * (N // 3),
        "Bearer " * (N // 7),
        " " * N,
        "\n" * N,
        "\\" * N,
    ],
    ids=lambda text: repr(text[:24]),
)
def test_masking_is_linear_in_the_length_of_a_line(text):
    marked = f"{text} password={C} https://me:{C}@host eyJ{C}.{C}.{C}"
    assert C not in redact(marked)
    assert looks_secret(marked)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"my.db-password = {C}", "my.db-password = ***"),
        (f"token_password: {C}", "token_password: ***"),
        (f"x-eyJ{C}-eyJ{C}.{C}.{C} end", "x-*** end"),
        (f"eyJ{C}.{C}..{C}.{C} end", "*** end"),
        (f"git+ssh2://me:{C}@host/p", "git+ssh2://***@host/p"),
        ("sftp://me@host/p", "sftp://me@host/p"),
        (f"sftp://me:{C}@host/p", "sftp://***@host/p"),
        ("eyJabcdefgh.short.x", "eyJabcdefgh.short.x"),
        ("token: ${file:a b.txt}", "token: ${file:a b.txt}"),
        (
            "Attempted credentials:\n\tEnvironmentCredential: Environment variables are not set\n"
            "\tAzureCliCredential: Azure CLI not found on path",
        )
        * 2,
        (f"\tAzureCliCredential: client_secret={C}", "\tAzureCliCredential: client_secret=***"),
        (f"DbCredential: {C}\ncredential: {C}", "DbCredential: ***\ncredential: ***"),
        (f"MessageBrokerCredential: {C}", "MessageBrokerCredential: ***"),
        (f"BrokerCredentials: {C}", "BrokerCredentials: ***"),
        (f"EnvironmentCredential={C}", "EnvironmentCredential=***"),
    ],
)
def test_what_exactly_is_masked(text, clean):
    assert redact(text) == clean

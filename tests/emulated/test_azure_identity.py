"""As whom a job reads and writes the store: each process here has what a node tells a job."""

import os
import sys
import uuid

import pytest

from tests.helpers.processes import run_process

pytest.importorskip("azure.ai.ml")

from drillyard_backends.azure import login
from drillyard_emulators.azure.cloud import NODE, STRANGER
from tests.helpers.azure_lab import needs_azurite

pytestmark = needs_azurite()
PROGRAM = """
import sys
from drillyard.errors import DrillyardError
from drillyard.mailbox import open_store
try:
    store = open_store(sys.argv[1])
    store.put("key", b"1")
    print("wrote", store.get("key"))
except DrillyardError as error:
    print(type(error).__name__, error, "|", error.hint)
"""


def on_a_node(azure, identity, **changes):
    """What a job prints that writes to the store, on a node of that identity."""
    env = {**azure.ask("node", identity=identity), **changes}
    url = f"az://{azure.account}/{azure.container}/identity"
    done = run_process(
        [sys.executable, "-c", PROGRAM, url], env={"PATH": os.environ["PATH"], **env}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_token_is_asked_for_with_the_client_id_of_the_identity(azure):
    """Azure ML gives none without it, for a user-assigned and for a system-assigned one."""
    assert "wrote b'1'" in on_a_node(azure, NODE)
    told = on_a_node(azure, NODE, DEFAULT_IDENTITY_CLIENT_ID="")
    assert told.startswith("StoreRefused") and "did not accept the sign-in" in told
    told = on_a_node(azure, NODE, DEFAULT_IDENTITY_CLIENT_ID=str(uuid.uuid4()))
    assert told.startswith("StoreRefused")


def test_a_node_without_an_identity_says_so(azure):
    """The variable then holds a word that is no id, and that no request may carry."""
    before = azure.state()["refused_tokens"]
    told = on_a_node(azure, None)
    assert azure.state()["refused_tokens"] == before + 1, "asking again does not help"
    assert told.startswith("StoreRefused") and "did not accept the sign-in" in told


def test_an_identity_without_a_role_is_told_which_one_it_needs(azure):
    told = on_a_node(azure, STRANGER)
    assert told.startswith("StoreRefused") and "Storage Blob Data Contributor" in told


@pytest.mark.parametrize("word", ["", "clientid", "55555555-6666-7777-8888-99999999999", "None"])
def test_only_an_id_is_taken_for_one(monkeypatch, word):
    monkeypatch.setenv(login.IDENTITY, word)
    assert login._identity_of_job() is None
    monkeypatch.setenv(login.IDENTITY, "55555555-6666-7777-8888-999999999999")
    assert login._identity_of_job() == "55555555-6666-7777-8888-999999999999"

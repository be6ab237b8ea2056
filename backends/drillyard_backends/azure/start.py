"""The command of a job: fetch drillyard from the store, verify it, become the worker.

The environment of a job has what drillyard needs and not drillyard itself: its wheel is larger
than what Azure takes as a build context (``context``). So the command is a short program that
needs nothing but azure-identity and azure-storage-blob. It signs in as the worker does, reads
where the lease's wheel is (``wheel.json`` beside the lease's order), reads the wheel, and refuses
one whose hash is not its name.

The command is the same for every job and names no version: a job that is submitted again by
another version of drillyard is the same job.
"""

from __future__ import annotations

import json
import re

from drillyard.backend import Order
from drillyard.mailbox import open_store
from drillyard_backends import wheel
from drillyard_backends.azure.job import ORDER_KEY, STORE
from drillyard_backends.from_wheel import REFUSED

_LINES = (
    "import hashlib, json, os, sys, tempfile",
    "from azure.identity import DefaultAzureCredential as Login",
    "from azure.storage.blob import ContainerClient as Blobs",
    # A user-assigned identity of the cluster, by its id; Azure ML writes `clientid` for none.
    "me = os.environ.get('DEFAULT_IDENTITY_CLIENT_ID', '')",
    "login = Login(managed_identity_client_id=me) if len(me) == 36 else Login()",
    f"account, box, *prefix = os.environ['{STORE}'][len('az://'):].rstrip('/').split('/', 2)",
    "blobs = Blobs('https://' + account + '.blob.core.windows.net', box, login)",
    "read = lambda key: blobs.download_blob('/'.join([*prefix, key])).readall()",
    f"key = json.loads(read(os.path.dirname(os.environ['{ORDER_KEY}']) + '/wheel.json'))['key']",
    "data = read(key)",
    "name = os.path.basename(key)",
    f"hashlib.sha256(data).hexdigest() + '.whl' == name or sys.exit('{REFUSED}' + key + ' is not "
    "what was sent (sha256); delete it and run the same command again')",
    "path = os.path.join(tempfile.mkdtemp(prefix='drillyard-'), name)",
    "open(path, 'wb').write(data)",
    "sys.path.insert(0, path)",
    "from drillyard_backends.from_wheel import start",
    "start(path, 'drillyard_backends.azure.job')",
)
COMMAND = f'python -c "{"; ".join(_LINES)}"'
"""One line without ``$``, backslashes, backticks, double quotes or braces: neither the shell nor
Azure ML's own templates change anything in it."""

_NO_CLIENT = re.compile(
    r'File "<string>", line 1, in <module>\n(?: .*\n)*'
    r"ModuleNotFoundError: No module named 'azure[.']"
)

_NOT_LET_IN = re.compile(
    r"ClientAuthenticationError|CredentialUnavailableError|did not accept the sign-in"
    r"|AuthorizationPermissionMismatch"
)
"""Errors of azure-identity and of the storage service, and what the store makes of them."""


def send(order: Order) -> None:
    """Leave drillyard's wheel where the jobs of a lease read it; safe to repeat.

    Raises:
        InfrastructureError: Drillyard cannot be packed, or the store does not answer.
    """
    text = json.dumps({"schema_version": 1, "key": wheel.send(order)})
    key = f"{order.experiment}/leases/{order.lease_id}/wheel.json"
    open_store(order.store_url).put(key, text.encode())


def refusal(lines: list[str]) -> str | None:
    """Why a job could not start its worker, from its log; None where it says nothing of that.

    Args:
        lines: What the job printed.
    """
    for line in lines:
        if REFUSED in line:
            return line.partition(REFUSED)[2].strip()
    if _NO_CLIENT.search("\n".join(lines)):
        return "this environment lacks azure-identity or azure-storage-blob"
    return None


def not_let_in(lines: list[str]) -> str | None:
    """Returns the line of a job's log that says that the store refused its identity, or None.

    Args:
        lines: What the job printed.
    """
    # A traceback quotes the libraries' source before the error: `raise ClientAuth…(message=…)`.
    refusals = (line.strip() for line in lines if _NOT_LET_IN.search(line))
    return next((line for line in refusals if not line.startswith("raise ")), None)

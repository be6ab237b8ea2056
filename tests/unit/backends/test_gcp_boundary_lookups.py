"""What google-auth asks in the background may be refused, and nobody reads of it."""

import socket
import sys

import pytest

from tests.helpers.processes import run_process

LOOKUP = """
import datetime, logging, sys
from drillyard.system.redaction import log_to
log_to(logging.StreamHandler(sys.stdout), form="%(levelname)s %(name)s %(message)s")
if sys.argv[1] == "ours":
    import drillyard_backends.gcp.store
import google.auth.exceptions
from google.auth import compute_engine
from google.auth.transport.requests import AuthorizedSession
account = "a@p.iam.gserviceaccount.com"
made = compute_engine.Credentials(service_account_email=account, universe_domain="googleapis.com")
made.token = "t"
made.expiry = datetime.datetime(9999, 1, 1)
try:
    made._lookup_regional_access_boundary(AuthorizedSession(made)._auth_request)
except google.auth.exceptions.GoogleAuthError:
    pass
logging.getLogger("urllib3.connectionpool").warning("Retrying after connection broken: /other")
"""


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["ours", "without"])
def test_a_lookup_that_fails_is_silent(how):
    pytest.importorskip("google.auth")
    with socket.socket() as taken:  # bound, and nobody listens: refused at once
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = run_process(
            [sys.executable, "-c", LOOKUP, how],
            more={"HTTPS_PROXY": f"http://127.0.0.1:{port}", "no_proxy": ""},
            timeout=60,
            check=True,
        )
    lines = done.stdout.splitlines()
    assert "/other" in lines[-1]
    assert (len(lines) == 1) is (how == "ours"), done.stdout

"""The account that drillyard uses, and another one of the provider's own command.

Both clouds have two places for a sign-in: variables, which libraries read, and the files of
``gcloud`` and ``az``, as which the commands of the guide and of every fix act. If they name two
accounts, a role is given to the one and missing on the other.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from drillyard.findings import Finding, warning
from drillyard.system.operating_system import settings_folder

KEY = "GOOGLE_APPLICATION_CREDENTIALS"
_SECRETS = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH")


def of_google(member: str) -> Iterator[Finding]:
    """Warns if gcloud's account is not the one of the key file that drillyard uses.

    Args:
        member: The account in use as an IAM member, ``serviceAccount:…``.
    """
    kind, _, uses = member.partition(":")
    key = os.environ.get(KEY)
    theirs, path = _of_gcloud()
    if kind != "serviceAccount" or not key or theirs in ("", uses):
        return
    yield _two(
        f"{uses} ({KEY}={key})",
        f"gcloud is signed in as {theirs} ({path})",
        f"unset {KEY} and gcloud auth application-default login; or gcloud config set account "
        f"{uses}",
    )


def of_azure() -> Iterator[Finding]:
    """Warns if az's account is not the one of the variables that drillyard uses."""
    uses, tenant = os.environ.get("AZURE_CLIENT_ID", ""), os.environ.get("AZURE_TENANT_ID", "")
    theirs, path = _of_az()
    known = uses and tenant and any(os.environ.get(name) for name in _SECRETS)
    if not known or theirs in ("", uses):
        return
    yield _two(
        f"the application {uses} of tenant {tenant} (AZURE_CLIENT_ID and the like)",
        f"az is signed in as {theirs} ({path})",
        f"unset AZURE_CLIENT_ID {' '.join(_SECRETS)}; or az login --service-principal --username "
        f"{uses} --tenant {tenant}",
    )


def _two(ours: str, theirs: str, fix: str) -> Finding:
    return warning("login", f"drillyard uses {ours}, and {theirs}: their roles may differ", fix)


def _of_gcloud() -> tuple[str, Path]:
    """Returns gcloud's active account, empty if there is none, and the file that names it."""
    folder = Path(os.environ.get("CLOUDSDK_CONFIG") or settings_folder() / "gcloud").expanduser()
    name = os.environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME")
    if not name:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            name = (folder / "active_config").read_text("utf-8").strip()
    path = folder / "configurations" / f"config_{name or 'default'}"
    parser = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, UnicodeDecodeError):
        parser.read(path, "utf-8")
    account = os.environ.get("CLOUDSDK_CORE_ACCOUNT")
    return str(account or parser.get("core", "account", fallback="")), path


def _of_az() -> tuple[str, Path]:
    """Returns the account of az's default subscription, and the file that names it."""
    path = Path(os.environ.get("AZURE_CONFIG_DIR") or "~/.azure").expanduser()
    path /= "azureProfile.json"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        for subscription in json.loads(path.read_text("utf-8-sig"))["subscriptions"]:
            if subscription.get("isDefault"):
                return str(subscription["user"]["name"]), path
    return "", path

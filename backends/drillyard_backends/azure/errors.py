"""The one seam where the errors of azure-core, azure-identity and azure-ai-ml become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from drillyard.errors import ControlPlaneError, DrillyardError, NoCapacity, UserError
from drillyard_backends.azure.login import SIGN_IN, refusal

_QUOTA = ("quota", "corequotaexceeded", "clustercorequotareached")


class Missing(Exception):
    """It is not there. Never leaves the package."""


class Exists(Exception):
    """Another one of that name is there. Never leaves the package."""


class SignInRefused(UserError):
    """Entra, or Azure, does not know us (any more)."""


class Forbidden(UserError):
    """A right is missing; asking again does not help."""


@contextlib.contextmanager
def at_work(what: str) -> Iterator[None]:
    """What is rented goes on when a sign-in ends meanwhile: that decides nothing.

    Args:
        what: What is tried, in words.

    Raises:
        ControlPlaneError: Instead of a refused sign-in.
    """
    try:
        yield
    except SignInRefused as error:
        hint = f"{error.hint}; jobs go on, and the same command watches them again"
        raise ControlPlaneError(f"{what}: {error.message}", hint=hint) from error


@contextlib.contextmanager
def seam(what: str) -> Iterator[None]:
    """Translate what comes out of the libraries.

    Args:
        what: What is tried, in words: ``create cluster drillyard``.

    Raises:
        Missing: It is not there.
        Exists: The name is taken by something else.
        NoCapacity: A quota.
        SignInRefused: Nobody knows us.
        Forbidden: A right is missing.
        UserError: What else only the user can mend: a refused value.
        ControlPlaneError: Anything else; trying again may help.
    """
    from azure.core import exceptions as azure

    try:
        yield
    except (DrillyardError, Missing, Exists):
        raise
    except azure.ClientAuthenticationError as error:
        # Also what azure-identity raises when no sign-in of its chain works.
        raise SignInRefused(f"{what}: Azure did not accept the sign-in: {refusal(error)}",
                            hint=SIGN_IN) from error  # fmt: skip
    except azure.ResourceNotFoundError as error:
        raise _absent(what, error) from error
    except azure.HttpResponseError as error:
        raise _of_status(what, error) from error
    except (azure.AzureError, OSError) as error:
        raise ControlPlaneError(
            f"{what}: {_text(error)}", hint="it was tried again; is the network there?"
        ) from error
    except Exception as error:
        if not type(error).__module__.startswith("azure."):
            raise
        # azure-ai-ml checks what it is given before it sends it.
        raise UserError(f"{what}: {_text(error)}") from error


def _absent(what: str, error: Exception) -> Exception:
    code = _code(error)
    if code in ("SubscriptionNotFound", "InvalidSubscriptionId"):
        return UserError(f"{what}: {_text(error)}", hint="az account list shows what you may use")
    if code == "ResourceGroupNotFound":
        return UserError(f"{what}: {_text(error)}", hint="az group list shows what there is")
    return Missing(_text(error))


def _of_status(what: str, error: Exception) -> Exception:
    status, text = getattr(error, "status_code", None), _text(error)
    if status == 404:
        return _absent(what, error)
    if status == 401:
        return SignInRefused(f"{what}: Azure did not accept the sign-in: {text}", hint=SIGN_IN)
    if any(word in f"{_code(error)} {text}".lower() for word in _QUOTA):
        return NoCapacity(f"{what}: {text}", hint="ask for a higher quota in the Azure portal")
    if status == 403:
        return Forbidden(
            f"{what}: no permission: {text}",
            hint="`drillyard plan` lists the missing rights; the role AzureML Data Scientist has "
            "most of them, AzureML Compute Operator those of clusters",
        )
    if status == 409 or "already exists" in text:
        return Exists(text)
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        return UserError(f"{what}: Azure refused it: {text}")
    return ControlPlaneError(f"{what}: {text}", hint="it was tried again; is Azure well?")


def _code(error: Exception) -> str:
    inner = getattr(error, "error", None)
    return str(getattr(inner, "code", "") or "")


def _text(error: Exception) -> str:
    """What people need of an error: Azure's own words, or the first line of the library's."""
    said = getattr(getattr(error, "error", None), "message", None)
    text = str(said or getattr(error, "message", "") or error) or type(error).__name__
    return text.strip().splitlines()[0][:500]

"""Recognizes secrets and masks them in text.

Used by the log filter, by errors before they are printed and by ``spec.semantics``, which refuses
a secret in a file.

Simulators print what they like, and a pattern holds the interpreter while it searches. So each
pattern takes a time linear in the length of the text: none begins with an unbounded repetition,
and none can scan the same characters from many starting points.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import time
from collections.abc import Mapping

from drillyard.errors import MASKS

MASK = "***"
_MIN_LENGTH = 6
"""A shorter registered value would mask ordinary words."""

_KEY_WORD = [
    "password",
    "passwd",
    "pwd",
    "secrets?",
    "token",
    "api[-_]?key",
    "access[-_]?key",
    "account[-_]?key",
    "private[-_]?key",
    "shared[-_]?key",
    "sas[-_]?token",
    "client[-_]?secret",
    "credentials?",
    "connection[-_]?string",
    "auth[-_]?string",
    "authorization",
]
_KEY_WORDS = f"(?:{'|'.join(_KEY_WORD)})"
_FIRST_LETTERS = sorted({word[0] for word in _KEY_WORD})
_KEY_WORD_FAST = "[{letters}](?i:{words})".format(
    letters="".join(letter + letter.upper() for letter in _FIRST_LETTERS),
    words="|".join(
        f"(?<={letter})(?:{'|'.join(w[1:] for w in _KEY_WORD if w[0] == letter)})"
        for letter in _FIRST_LETTERS
    ),
)
"""The same as ``_KEY_WORDS``. Its set of first letters lets ``re`` pass over numbers quickly."""
_SECRET_KEY = re.compile(rf"(?:\A|[-_.A-Za-z0-9]*[-_.]){_KEY_WORDS}\Z", re.IGNORECASE)
_CAMEL_SECRET_KEY = re.compile(r"[a-z0-9](?:Password|Secret|Token|ApiKey|AccessKey|AccountKey)\Z")
_USERINFO = re.compile(
    r"(?P<scheme>://(?<=[A-Za-z0-9+.-]://))"
    # A login name alone is not a secret if the login uses keys.
    r"(?!(?:(?<=sftp://)|(?<=ssh://))[\w.-]+@)"
    r"(?P<user>[^\s/?#@'\"]+)@"
)
_ASSIGNMENT = re.compile(
    # Whatever stands before the key word is part of the key, and changes nothing.
    rf"(?P<key>{_KEY_WORD_FAST}[\"']?\s*[:=]\s*)"
    r"(?P<value>\$\{[^}\n]{0,1000}\}|(?:Bearer|Basic)\s+[^\s,;'\"}\]]+|\"[^\"]*\"|'[^']*'|[^\s,;'\"}\]&]+)",
    re.IGNORECASE,
)
_VALUES = {
    "-----BEGIN ": r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    "sk-": r"\bsk-[A-Za-z0-9_-]{16,}",
    "gh": r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    "github_pat_": r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    "glpat-": r"\bglpat-[A-Za-z0-9_-]{16,}",
    "AKIA": r"\bAKIA[0-9A-Z]{16}\b",
    "ASIA": r"\bASIA[0-9A-Z]{16}\b",
    "AIza": r"\bAIza[0-9A-Za-z_-]{30,}",
    "ya29.": r"\bya29\.[0-9A-Za-z_-]{16,}",
    "xox": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "hf_": r"\bhf_[A-Za-z0-9]{20,}",
    "pn": r"\bpn[ub]_[A-Za-z0-9]{16,}",
    "https://hooks.slack.com/": r"https://hooks\.slack\.com/[\w/-]{8,}",
    "https://discord": r"https://discord(?:app)?\.com/api/webhooks/[\w/-]{8,}",
    "AccountKey=": r"\bAccountKey=[A-Za-z0-9+/=]{16,}",
    "sig=": r"\bsig=[A-Za-z0-9%+/=]{20,}",
    "Bearer ": r"(?<=Bearer )[A-Za-z0-9._~+/-]{8,}=*",
}
"""Forms of secrets. Each key is a text without which its form cannot match: the faster search."""
_FORMS = [(part, re.compile(pattern, re.DOTALL)) for part, pattern in _VALUES.items()]
_WEB_TOKEN = re.compile(
    # The parts after the first are optional: a run of characters that is not a token is passed
    # over as a whole, and not searched again from each "eyJ" in it.
    r"eyJ(?<=\beyJ)[A-Za-z0-9_-]{8,}(?P<parts>\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)+)?"
)
_REFERENCE = re.compile(r"\$\{(?:env|file):[^}]*\}|\*{3}|\$\w+")
_SIGN_INS = (
    "Environment",
    "WorkloadIdentity",
    "ManagedIdentity",
    "SharedTokenCache",
    "VisualStudioCode",
    "AzureCli",
    "AzurePowerShell",
    "AzureDeveloperCli",
    "InteractiveBrowser",
    "Broker",
    "DefaultAzure",
)
"""Begin the names of azure-identity's ways to sign in: ``AzureCliCredential: Azure CLI not found``
is a diagnosis, and not a value."""
_AFTER_SIGN_IN = re.compile(rf"\b(?:{'|'.join(_SIGN_INS)})\Z")
_registered: set[str] = set()


def is_secret_key(key: str) -> bool:
    """True for names such as ``password``, ``db_token``, ``apiKey``."""
    return bool(_SECRET_KEY.match(key) or _CAMEL_SECRET_KEY.search(key))


def looks_secret(text: str) -> bool:
    """True if a text contains something with the form of a key, token or URL with a password."""
    return (
        any(part in text and form.search(text) for part, form in _FORMS)
        or has_userinfo(text)
        or any(match["parts"] for match in _WEB_TOKEN.finditer(text))
    )


def has_userinfo(text: str) -> bool:
    """True for ``scheme://user:password@host``, also with a token alone before the ``@``."""
    return bool(_USERINFO.search(text))


def register_secret(value: str) -> None:
    """Hide a value everywhere from now on, also in its base64 form.

    Args:
        value: The secret itself; shorter than 6 characters: ignored.
    """
    if len(value) < _MIN_LENGTH:
        return
    _registered.add(value)
    # A multi-line key is usually logged line by line.
    _registered.update(p for p in value.splitlines() if len(p) >= _MIN_LENGTH * 2)
    raw = value.encode()
    for padding in range(3):
        # The base64 form of a text that contains the secret depends on the secret's offset
        # modulo 3, but the middle is the same.
        coded = base64.b64encode(b"\0" * padding + raw).decode()
        middle = coded[4 if padding else 0 : len(coded) - 4 or None]
        if len(middle) >= _MIN_LENGTH * 2:
            _registered.add(middle)


def register_environment(variables: Mapping[str, str] = os.environ) -> None:
    """Register the values of environment variables with names of secrets."""
    for name, value in variables.items():
        if name in ("PWD", "OLDPWD"):  # the working folder, not a password
            continue
        if is_secret_key(name):
            register_secret(value)
        elif has_userinfo(value):
            for match in _USERINFO.finditer(value):
                register_secret(match["user"].partition(":")[2])


def redact(text: str, *, assignments: bool = True) -> str:
    """A text with everything that looks like a secret masked.

    Args:
        text: Any text, of any number of lines.
        assignments: Also mask every value after ``password:`` or ``token=``.
    """
    for secret in sorted(_registered, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, MASK)
    for part, form in _FORMS:
        if part in text:
            text = form.sub(MASK, text)
    text = _WEB_TOKEN.sub(lambda match: MASK if match["parts"] else match[0], text)
    text = _USERINFO.sub(rf"\g<scheme>{MASK}@", text)
    return _ASSIGNMENT.sub(_mask_assignment, text) if assignments else text


MASKS.append(redact)


def _mask_assignment(match: re.Match[str]) -> str:
    value = match["value"]
    if _REFERENCE.fullmatch(value.strip("\"'")) or value in ("None", "null", "True", "False"):
        return match[0]
    before = match.string[max(0, match.start() - 30) : match.start()]
    after_name = match["key"] == "Credential: " and _AFTER_SIGN_IN.search(before)
    if after_name or value.removesuffix("Credential:") in _SIGN_INS:
        return match["key"] + _ASSIGNMENT.sub(_mask_assignment, value)
    quote = value[0] if value[0] in "\"'" else ""
    return f"{match['key']}{quote}{MASK}{quote}"


def redact_tree(value: object, key: str = "") -> object:
    """A JSON tree with secrets masked, by the name of the key and by the form of the value."""
    if isinstance(value, dict):
        return {k: redact_tree(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact_tree(v, key) for v in value]
    if isinstance(value, str):
        if is_secret_key(key) and not _REFERENCE.fullmatch(value):
            return MASK
        return redact(value)
    return value


class RedactingFilter(logging.Filter):
    """Masks secrets in the message, its arguments, the traceback and the stack of a record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; it is never dropped."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = f"{record.msg} {record.args}"
        record.msg, record.args = redact(message), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
            record.exc_info = None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True


def log_to(
    *handlers: logging.Handler, form: str = "%(asctime)sZ %(levelname)s %(message)s"
) -> None:
    """Send this process's log to handlers, unless it has some: times in UTC, secrets masked.

    Args:
        handlers: The handlers.
        form: Format of a line.
    """
    formatter = logging.Formatter(form)
    formatter.converter = time.gmtime
    for handler in handlers:
        protect(handler).setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=handlers)


def protect(handler: logging.Handler) -> logging.Handler:
    """Add the filter to a handler, once. All handlers of drillyard get it here."""
    if not any(isinstance(f, RedactingFilter) for f in handler.filters):
        handler.addFilter(RedactingFilter())
    return handler

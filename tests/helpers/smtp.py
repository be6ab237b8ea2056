"""A mail server on this machine that keeps what it is sent."""

from __future__ import annotations

import email
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any

from aiosmtpd.controller import Controller

from tests.helpers.patience import PATIENCE_S
from tests.helpers.processes import free_port


class Mailbox:
    """What was received.

    Attributes:
        url: Where alerts are mailed to, as Apprise writes it.
        mails: In order.
    """

    def __init__(self) -> None:
        self.url = ""
        self.mails: list[Message] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(email.message_from_bytes(envelope.content))
        return "250 OK"


def text(mail: Message) -> str:
    """The plain text of a mail."""
    for part in mail.walk():
        if part.get_content_type() == "text/plain":
            found = part.get_payload(decode=True)
            assert isinstance(found, bytes)
            return found.decode()
    raise AssertionError(f"no plain text: {mail}")


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """A receiver, while the context lasts."""
    box = Mailbox()
    port = free_port()  # the library cannot be told to choose one
    server = Controller(box, hostname="127.0.0.1", port=port, ready_timeout=PATIENCE_S)
    server.start()
    try:
        people = "from=drillyard@example.org&to=ops@example.org"
        box.url = f"mailto://127.0.0.1:{port}?{people}&mode=insecure"
        yield box
    finally:
        server.stop()

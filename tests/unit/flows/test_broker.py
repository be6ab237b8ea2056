"""An alert whose database is locked waits for it, and is not given up."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy
from prefect.server.utilities.messaging import Message, create_consumer
from prefect.server.utilities.messaging.memory import Topic
from prefect.settings import PREFECT_MESSAGING_BROKER, temporary_settings

from drillyard_flows.local_stack import broker
from drillyard_flows.local_stack.services import services
from drillyard_flows.local_stack.stack import LocalStack
from tests.helpers.patience import PATIENCE_S

TRIES = 7
"""More often than Prefect tries, which gives a message up after four attempts."""


def test_a_locked_database_delays_an_alert_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker.patient, "__defaults__", (0.01, broker.PATIENCE_S))
    file = tmp_path / "prefect.db"
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("CREATE TABLE told (alert TEXT)")
    other.execute("BEGIN EXCLUSIVE")
    engine = sqlalchemy.create_engine(f"sqlite:///{file}", connect_args={"timeout": 0.01})
    tried: list[Message] = []

    async def told() -> list[str]:
        done = asyncio.Event()

        async def handler(message: Message) -> None:
            tried.append(message)
            if len(tried) == TRIES:
                other.execute("ROLLBACK")
            with engine.begin() as connection:
                text = sqlalchemy.text("INSERT INTO told VALUES (:alert)")
                connection.execute(text, {"alert": str(message.data)})
            done.set()

        subscription = Topic.by_name("alerts-of-a-test").subscribe(
            dead_letter_queue_path=tmp_path / "dlq"
        )
        consumer = broker.Consumer("alerts-of-a-test", subscription=subscription, concurrency=1)
        running = asyncio.create_task(consumer.run(handler))
        async with broker.Publisher("alerts-of-a-test", None) as publisher:  # type: ignore[arg-type]
            await publisher.publish_data(b"the pump is dry", {})
        await asyncio.wait_for(done.wait(), PATIENCE_S)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await consumer.cleanup()
        return [row[0] for row in other.execute("SELECT alert FROM told")]

    try:
        assert asyncio.run(told()) == ["b'the pump is dry'"]
    finally:
        engine.dispose()
        other.close()
    assert len(tried) == TRIES and not (tmp_path / "dlq").exists()


def test_a_wrong_statement_is_not_repeated(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    calls: list[int] = []

    async def handler(message: Message) -> None:
        calls.append(1)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("SELECT * FROM nowhere"))

    message = broker.memory.MemoryMessage(data=b"x", attributes={})
    with pytest.raises(sqlalchemy.exc.OperationalError, match="no such table"):
        asyncio.run(_awaited(broker.patient(handler), message))
    engine.dispose()
    assert len(calls) == 1


async def _awaited(handler: broker.MessageHandler, message: Message) -> None:
    await handler(message)


def test_the_server_of_up_handles_its_messages_so(tmp_path: Path) -> None:
    stack = LocalStack.at(tmp_path / "up")
    with stack.locked():
        pass
    made = services(stack, {"prefect": 4200, "mlflow": 5000}, "/nowhere")
    (server,) = [s for s in made if s.name == "prefect"]
    named = server.environment["PREFECT_SERVER_EVENTS_MESSAGING_BROKER"]
    with temporary_settings({PREFECT_MESSAGING_BROKER: named}):
        consumer = create_consumer("alerts-of-a-test")
    assert isinstance(consumer, broker.Consumer)
    asyncio.run(consumer.cleanup())

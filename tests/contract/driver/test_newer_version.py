"""A mailbox that a newer drillyard wrote is refused by name, and left as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from drillyard.cli.main import main
from drillyard.driver.driver import Driver
from drillyard.errors import CorruptObject, NewerVersion
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Claim, RunRecord
from tests.helpers.lives import life
from tests.helpers.tiny_backend import ThreadBackend, tiny

READ_FIRST = ("experiment.json", "runs/t0001-s1/train.accepted.json", "driver/1.json")


def newer(path: Path) -> None:
    """As a later version would write it: another schema, with other fields."""
    document = json.loads(path.read_text())
    document = {f"{k}_2": v for k, v in document.items()} | {"schema_version": 2}
    path.write_text(json.dumps(document))


@pytest.mark.heavy
def test_what_a_newer_version_wrote_is_refused_and_left_alone(folder, mailbox, tmp_path, capsys):
    life(Driver(tiny(folder), mailbox, ThreadBackend()))
    root = Path(mailbox.store.url) / mailbox.experiment
    records = [str(p.relative_to(root)) for p in sorted(root.rglob("*.json"))]
    assert set(READ_FIRST) <= set(records)
    refused = set()
    for number, record in enumerate(records):
        url = str(tmp_path / f"store-{number}")
        shutil.copytree(mailbox.store.url, url)
        path = Path(url) / mailbox.experiment / record
        newer(path)
        before = contents(url)
        for words in (["status", "tiny"], ["results", "tiny"], ["list", "experiments"]):
            code = main([*words, "--store", url])
            out = capsys.readouterr()
            said = out.out + out.err
            assert "damaged" not in said and "Traceback" not in said, (record, words, said)
            assert code in (0, 2), (record, words, said)
            assert code == 0 or "update drillyard" in said, (record, words, said)
        assert contents(url) == before
        again = Driver(tiny(folder), Mailbox(open_store(url), "tiny"), ThreadBackend())
        try:
            again.open()
        except NewerVersion as error:
            assert record in str(error) and "update drillyard" in str(error.hint)
            assert before.items() <= contents(url).items(), record
            refused.add(record)
        else:
            again.close("done")
        assert path.read_bytes() == before[str(path)], record
    assert refused >= set(READ_FIRST), refused


def contents(url: str) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path(url).rglob("*") if p.is_file()}


@pytest.mark.parametrize("rest", [{}, {"run": "r"}, {"run": "r", "experiment": "e", "seed": 1}])
def test_a_higher_version_is_no_damage(rest):
    """Also where this version could read all that it knows: the meaning may have changed."""
    with pytest.raises(NewerVersion):
        RunRecord.from_bytes(json.dumps({"schema_version": 2, **rest}).encode())


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"schema_version": 1}', b'{"a": 1}', b"[" * 99_999]
)
def test_damage_is_damage(data):
    with pytest.raises(CorruptObject):
        Claim.from_bytes(data)


def test_unknown_fields_of_the_same_version_are_read_over():
    """So a newer worker may add a field, and an older driver goes on."""
    document = {"run": "r", "experiment": "e", "seed": 1, "something": "new"}
    assert RunRecord.from_bytes(json.dumps(document).encode()).run == "r"

"""The sidecar of a ticket goes on whatever the disk and the store do."""

from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Cancel, Claim, Phase, TicketRecord
from drillyard.runs.workload import StopSignal
from drillyard.system.clock import SYSTEM
from drillyard.worker.logship import LogShipper
from drillyard.worker.progress import ProgressKeeper
from drillyard.worker.sidecar import TicketSidecar


def test_a_log_that_cannot_be_shipped_ends_neither_heartbeat_nor_orders(tmp_path):
    mailbox = Mailbox(MemoryStore(f"memory://{tmp_path}"), "x")
    claim = Claim(ticket="t0001-s1.train", attempt=1, worker="w", token="t", claimed_at=0.0)
    mailbox.claim(claim)
    ticket = TicketRecord(ticket=claim.ticket, run="t0001-s1", phase=Phase.TRAIN, posted_at=0.0)
    (tmp_path / "log.txt").write_text("a line\n")
    (tmp_path / "log.txt.shipped").mkdir()  # an error of the system, as a full disk is
    stop = StopSignal()
    shipper = LogShipper(mailbox, "runs/t0001-s1/attempts/train-1", tmp_path / "log.txt")
    progress = ProgressKeeper(ticket, claim, SYSTEM)
    sidecar = TicketSidecar(mailbox, claim, stop, progress, shipper, None, SYSTEM)
    mailbox.write("control/cancel.json", Cancel(reason="enough", by="me", written_at=0.0))
    assert sidecar.step(0.0) is not None
    assert stop.requested and stop.reason == "enough"
    board = mailbox.board("t0001-s1")
    assert board is not None and board.beat == 1

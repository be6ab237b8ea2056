"""Messages between a host and the process of a copy."""

import threading
from multiprocessing import Pipe

import pytest

from drillyard.simulators.hosts.messages import Messages


def test_messages_of_any_length_arrive():
    ours, theirs = (Messages(end) for end in Pipe())
    for size in (0, 1, 2**16 - 8, 2**16 - 7, 2**21):
        message = bytes(range(251)) * (size // 251) + b"x" * (size % 251)
        sender = threading.Thread(target=theirs.send, args=(message,))
        sender.start()
        assert ours.receive() == message
        sender.join()
        ours.send(b"heard")
        assert theirs.receive() == b"heard"


def test_the_end_of_the_other_side_is_noticed():
    one, other = Pipe()
    other.close()
    messages = Messages(one)
    with pytest.raises((EOFError, OSError)):
        messages.receive()
    with pytest.raises(OSError):
        messages.send(b"too late")

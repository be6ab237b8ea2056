"""Hard links refused by the kernel itself, for one process and what it starts."""

from __future__ import annotations

import platform
import sys

import pytest

_LINK = {"x86_64": (86, 265), "aarch64": (37,)}.get(platform.machine())
"""Numbers of link and linkat in the kernel's table of system calls."""
_SECCOMP = """
import ctypes, struct
# A filter (seccomp(2)): link and linkat answer {error}, everything else is allowed.
LD, JEQ, RET, ALLOW, ERRNO = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000
numbers = {numbers}
program = [(LD, 0, 0, 0)]
for left, number in zip(range(len(numbers), 0, -1), numbers):
    program.append((JEQ, left, 0, number))
program += [(RET, 0, 0, ALLOW), (RET, 0, 0, ERRNO | {error})]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(program), ctypes.addressof(code))), 0, 0) == 0
"""


def refusing_links(error: int) -> str:
    """Python code to put first into a program.

    Args:
        error: What link(2) and linkat(2) answer from then on.
    """
    if _LINK is None or not sys.platform.startswith("linux"):
        pytest.skip("the numbers of system calls of this machine are not known")
    return _SECCOMP.format(error=error, numbers=_LINK)

"""Runs what the documents say a user can type, and compares what they are said to see.

- A ```` ```console ```` block holds ``$ command`` lines; the lines below a command must appear in
  its output, in order; ``…`` stands for anything.
- A ```` ```yaml ```` block that starts with ``schema:`` must be a valid experiment.
- A ```` ```python ```` block must run.
- ``<!-- file: NAME -->`` before a block writes the block to that file first.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers import command_line
from tests.helpers.command_line import Done
from tests.helpers.processes import run_process

FENCE = re.compile(
    r"(?:<!-- file: (?P<file>[^ ]+) -->\n)?```(?P<lang>\w*)(?P<info>[^\n]*)\n(?P<body>.*?)```",
    re.S,
)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")
IMAGE = re.compile(r"!\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass
class Command:
    """One ``$ line`` and what it is said to print."""

    line: str
    expected: list[str] = field(default_factory=list)


@dataclass
class Block:
    """A fenced block."""

    language: str
    body: str
    file: str | None
    line: int


def pages(top: Path) -> list[Path]:
    """What users read: the README, and every page of the site but those for contributors."""
    contributing = top / "docs" / "contributing"
    found = sorted((top / "docs").rglob("*.md"))
    return [top / "README.md", *(p for p in found if contributing not in p.parents)]


def blocks(text: str) -> list[Block]:
    return [
        Block(m["lang"], m["body"], m["file"], text[: m.start()].count("\n") + 1)
        for m in FENCE.finditer(text)
    ]


def commands(body: str) -> list[Command]:
    found: list[Command] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:].split("  # ")[0].strip()))
        elif found and line.strip():
            found[-1].expected.append(line.strip())
    return found


def links(text: str) -> list[str]:
    """Relative links and images."""
    targets = [m["target"] for m in LINK.finditer(text)]
    targets += [m["target"] for m in IMAGE.finditer(text)]
    return [t for t in targets if "://" not in t and not t.startswith("mailto:")]


OWN_PROCESS = ("run", "launch", "resume", "rehearse", "bench", "up", "down", "serve", "reap")
"""Commands that start servers or workers, handle signals, or ask every registered backend."""


def run(command: str, folder: Path, env: dict[str, str], *, shell: bool = False) -> Done:
    """Run a documented command as a user would.

    Args:
        command: As a user types it.
        folder: The working directory.
        env: Set beside what is set already.
        shell: Start a shell for it, with this environment's programs first. Otherwise only a
            command that needs one, or that is in ``OWN_PROCESS``, gets one; the others run in
            this process, which imported already what they need.
    """
    words = command_line.words_of(command)
    if not shell and words and words[0] not in OWN_PROCESS:
        return command_line.shown(command, folder, env)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = run_process(["bash", "-c", command], cwd=folder, more={**env, "PATH": path})
    return Done(done.returncode, done.stdout, done.stderr)


def missing(expected: list[str], output: str) -> str | None:
    """The first expected line that does not appear in order, or None."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    at = 0
    for line in expected:
        parts = [re.escape(part.strip()) for part in " ".join(line.split()).split("…")]
        pattern = re.compile(".*".join(parts))
        while at < len(lines) and not pattern.search(lines[at]):
            at += 1
        if at == len(lines):
            return line
        at += 1
    return None

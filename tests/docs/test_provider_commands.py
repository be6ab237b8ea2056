"""The commands of ``az`` in pages, scripts and messages are those of Microsoft's reference.

``az`` cannot check a command without sending it. ``az_commands.json`` has the flags of each
command that we name, and says where they were read; gcloud checks its own commands
(tests/emulated/test_first_hour.py).
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
REFERENCE = json.loads(Path(__file__).with_name("az_commands.json").read_text())
COMMANDS = REFERENCE["commands"]
WORDS = re.compile(r"(?<![\w-])az ((?:[a-z][a-z0-9-]*(?: |$))*[a-z][a-z0-9-]*)(.*)")
FLAG = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*)\b")
NOT_COMMANDS = ("is signed in as", "cannot", "is played", "and")


def lines(path):
    """Lines of a file; those of a shell that continue are one."""
    text = path.read_text("utf-8").replace("\\\n", " ")
    return text.splitlines()


def files():
    yield from (ROOT / "docs").rglob("*.md")
    yield from (p for p in (ROOT / "deployments").rglob("*") if p.suffix in (".md", ".sh"))
    yield from (ROOT / "backends" / "drillyard_backends" / "azure").rglob("*.py")
    yield ROOT / "backends" / "drillyard_backends" / "sign_ins.py"


def named(text):
    """The commands in a line, each with its flags; the words of a sentence end one."""
    for piece in re.split(r"\$\(|[`;|\"]|(?<=\w)\)", text):
        match = WORDS.search(piece)
        if match is None or match[1].startswith(NOT_COMMANDS):
            continue
        words = match[1].split()
        ends = [n for n in range(len(words), 0, -1) if " ".join(words[:n]) in COMMANDS]
        name = " ".join(words[: ends[0]]) if ends else " ".join(words)
        yield name, set(FLAG.findall(match[2]))


USED = sorted(
    {
        (name, tuple(sorted(flags)), str(path.relative_to(ROOT)))
        for path in files()
        for line in lines(path)
        for name, flags in named(line)
    }
)


def test_each_command_of_az_and_its_flags_are_in_the_reference():
    assert len(USED) > 40
    for name, flags, where in USED:
        assert name in COMMANDS, f"{where}: az {name} is not in az_commands.json"
        known = {*COMMANDS[name]["flags"], *REFERENCE["everywhere"]}
        assert set(flags) <= known, f"{where}: az {name} has no {sorted(set(flags) - known)}"


def test_the_page_gives_every_flag_that_a_command_requires():
    for line in lines(ROOT / "docs" / "how-to" / "azure-first-hour.md"):
        if line.startswith(("az ", "  az ", "export ")):
            for name, flags in named(line):
                assert set(COMMANDS[name]["required"]) <= flags, line


def test_the_reference_has_only_commands_that_are_used():
    assert set(COMMANDS) == {name for name, _, _ in USED}

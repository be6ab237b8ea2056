"""Emulated machines: whose processes are whose."""

import os

from drillyard_emulators.http.machines import EMULATOR_MARK, Machine
from tests.helpers.patience import until


def test_two_emulators_with_a_machine_of_one_number_leave_each_other_alone(tmp_path):
    def switched_on(emulator: str) -> Machine:
        return Machine(
            "m",
            "4000000000000000001",
            tmp_path / emulator,
            tmp_path / f"{emulator}.serial",
            {**os.environ, EMULATOR_MARK: emulator},
            "#!/usr/bin/env bash\necho hello\nwhile :; do sleep 0.05; done\n",
        )

    one, other = switched_on("one"), switched_on("other")
    try:
        until(lambda: "hello" in one.serial.read_text() and "hello" in other.serial.read_text())
        one.cut()
        assert one.code is not None
        assert other.code is None
        other.freeze()
        other.cut()
        assert other.code is not None
    finally:
        one.cut()
        other.cut()

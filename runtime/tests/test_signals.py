"""Signals that ask a process to stop."""

import signal
import subprocess
import sys

import pytest

# Each signal finds the event's lock held, as it may be while another thread sets the event or the main thread begins to
# wait for it.
PROGRAM = """
import os, sys
from runtime import signals
stopped = signals.stop_event()
with stopped._cond:
    for _ in range(3):
        os.kill(os.getpid(), int(sys.argv[1]))
sys.exit(not stopped.wait(60))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_a_process_whatever_it_is_in_the_middle_of(number: signal.Signals) -> None:
    assert subprocess.run([sys.executable, "-c", PROGRAM, str(int(number))], timeout=60, check=False).returncode == 0

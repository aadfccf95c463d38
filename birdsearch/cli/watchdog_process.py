"""The process that ends a birdsearch that cannot end itself; started by `birdsearch.cli.watchdog`.

It is run as a file, without the rest of birdsearch. On its standard input come the process's signs of life, a line
a second that says what is at work, and single bytes: the numbers of signals that it got, which arrive even if a
library holds Python's global lock, and 4 once it has nothing to do but to exit.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

__all__ = ["main"]

_REASONS = {
    signal.SIGINT: "was told to end by SIGINT",
    signal.SIGTERM: "was told to end by SIGTERM",
    4: "was done",
}
_TICK_S = 1.0
# A longer time between two ticks is not silence: this process, or the machine, was asleep.
_LONGEST_TICK_S = 2.0
_ADVICE = "what was committed is kept, and the same command goes on from there."


def main(pid: int, limit_s: float, grace_s: float) -> None:
    """Watch a process until it has ended, or end it.

    Args:
        pid: The process, which is the parent of this one.
        limit_s: How long it may give no sign of life, in seconds; 0 for as long as it likes.
        grace_s: How long it may go on after a signal that asks it to end, or once nothing is left to do.
    """
    # Sent to all processes of a terminal or a service; this one ends when the other has.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    silent_s = asked_s = 0.0
    reason, line, at_work = "", b"", "starting"
    before = time.monotonic()
    while os.getppid() == pid:
        ready, _, _ = select.select([0], [], [], _TICK_S)
        moment = time.monotonic()
        tick = min(moment - before, _LONGEST_TICK_S)
        before = moment
        if ready:
            came = os.read(0, 1 << 16)
            if not came:
                return
            for byte in came:
                if byte == 10:
                    at_work, line, silent_s = line.decode("utf-8", "replace"), b"", 0.0
                elif byte >= 32:
                    line += bytes([byte])
                else:
                    reason = reason or _REASONS.get(byte, "")
        elif _is_halted(pid):
            continue
        silent_s += tick
        asked_s += tick if reason else 0.0
        if reason and asked_s > grace_s:
            _end(pid, f"{reason} and had not ended {grace_s:g} s later", at_work)
        elif limit_s and silent_s > limit_s:
            _end(pid, f"gave no sign of life for {silent_s:.0f} s", at_work)


def _is_halted(pid: int) -> bool:
    """Return whether a terminal or a debugger has stopped the process; False where the system does not say."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def _end(pid: int, what: str, at_work: str) -> None:
    text = f"Error: birdsearch {what}; at work: {at_work}. It was killed; {_ADVICE}\n"
    # The terminal may be gone.
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
    if os.getppid() == pid:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))

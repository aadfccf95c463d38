"""Run commands of birdsearch in the test's own process, which has loaded what they need."""

from __future__ import annotations

import contextlib
import io
import subprocess
from pathlib import Path

from birdsearch.cli import run


def birdsearch(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command as `birdsearch ARGUMENTS` does, without its watchdog, and return what it printed."""
    command = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code, _ = run(command)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

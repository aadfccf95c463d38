"""Start-up of the commands, as whole processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from timing import interleaved, report


def main(folder: Path, scratch: Path, runs: int = 7) -> None:  # noqa: ARG001
    """Time `--help` against a bare interpreter."""

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    seconds = interleaved(
        {
            "python -c pass": lambda: run("-c", "pass"),
            "birdsearch --help": lambda: run("-m", "birdsearch", "--help"),
            "birdsearch query --help": lambda: run("-m", "birdsearch", "query", "--help"),
            "import torch": lambda: run("-c", "import torch"),
        },
        runs,
    )
    report("start-up", seconds, 1, "starts", folder)

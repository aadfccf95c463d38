"""Run every benchmark; results are printed and written as JSON into benchmarks/results/.

Usage: python benchmarks/run.py [NAME ...]
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

NAMES = ("startup", "network", "query", "archive", "growth", "labels", "vectors", "serve", "gpu")


def main() -> None:
    """Run the named benchmarks, or all."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in sys.argv[1:] or NAMES:
            importlib.import_module(name).main(Path(__file__).parent / "results", Path(scratch))


if __name__ == "__main__":
    main()

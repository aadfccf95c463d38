"""Runs an index run a line of input, each in a fork that may be killed; loading torch once for all of them.

Speaks on stdout: `pid N` when a run starts, `ack N` after N more files are committed, `exit STATUS` at the end.
Everything runs on one thread (`OMP_NUM_THREADS=1`, set by who starts it): a fork does not take the threads of
OpenMP with it, and would wait for them for ever.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.options import IndexOptions
from birdsearch.indexer.pipeline import index_archive
from birdsearch.model import load_model


class Acknowledge:
    def scanned(self, files: int) -> None:
        pass

    def planned(self, files: int) -> None:
        pass

    def committed(self, files: int) -> None:
        os.write(1, f"ack {files}\n".encode())


def main(weights: str, catalog: str, archive: str) -> None:
    model = load_model(Path(weights), device="cpu")
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            with CatalogStore.open(catalog, "create") as store:
                index_archive(
                    store,
                    model,
                    [archive],
                    IndexOptions(workers=1, batch_size=8, confirm_missing=True),
                    Acknowledge(),
                )
            os._exit(0)
        os.write(1, f"pid {child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(1, f"exit {status}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])

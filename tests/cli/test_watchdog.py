"""A command always ends: by itself with an error, or by its watchdog, whatever a library does in it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from birdsearch.indexer.catalog.connection import DATABASE_NAME

MakePhoto = Callable[..., Path]

# The command line, with a network that is stuck from its second batch on, and a watchdog that waits less long.
PROGRAM = """
import ctypes, signal, sys, threading, time
import birdsearch.cli as cli
import birdsearch.indexer.watch
from birdsearch.cli.watchdog import Watchdog
from birdsearch.settings import Settings
from birdsearch.model.inference import Model
# Takes seconds on a busy machine, which are not to be counted.
import birdsearch.model.runtimes.torch

how, grace_s, *sys.argv[1:] = sys.argv[1:]
stuck = {
    "python": lambda: threading.Event().wait(),
    "native": lambda: ctypes.CDLL(None).sleep(600),
    "native with the lock": lambda: ctypes.PyDLL(None).sleep(600),
    "nothing": lambda: None,
}[how]
original, batches = Model.infer_pixels, 0

def infer_pixels(self, pixels):
    global batches
    batches += 1
    if batches == 2:
        # What came before is to be committed.
        time.sleep(1.5)
        print("stuck", flush=True)
        stuck()
    return original(self, pixels)

Model.infer_pixels = infer_pixels
birdsearch.indexer.watch.STOP_S = 2.0
cli._watchdog = lambda: Watchdog(Settings.from_environment().stall_s, sys.argv[1], grace_s=float(grace_s))
cli.main()
"""

HELD = """
import ctypes, sys
from birdsearch.cli.watchdog import Watchdog
watchdog = Watchdog(float(sys.argv[1]), "a test", grace_s=float(sys.argv[2]))
"""


@pytest.fixture
def archive(tmp_path: Path, make_photo: MakePhoto) -> Path:
    for number in range(8):
        make_photo(tmp_path / "archive" / f"{number}.png", number, size=(8, 8))
    return tmp_path / "archive"


@pytest.fixture
def start(
    tmp_path: Path, archive: Path, tiny_weights: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `index` in batches of 4 photos, with a network that is stuck in some way."""
    with contextlib.ExitStack() as ends:

        def index(how: str, stall_s: float, grace_s: float = 60.0) -> subprocess.Popen[str]:
            options = ["--weights", str(tiny_weights), "--catalog", str(tmp_path / "catalog")]
            few = ["--batch-size", "4", "--workers", "1"]
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, how, str(grace_s), "index", str(archive), *options, *few],
                env={**os.environ, "BIRDSEARCH_STALL_SECONDS": str(stall_s)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            ends.enter_context(process)
            ends.callback(process.kill)
            return process

        yield index


def _until_stuck(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"


def _photos(catalog: Path) -> int:
    with contextlib.closing(sqlite3.connect(catalog / DATABASE_NAME)) as connection:
        found: int = connection.execute("SELECT count(*) FROM embedding").fetchone()[0]
    return found


@pytest.mark.parametrize("how", ["python", "native"])
def test_an_index_whose_network_is_stuck_ends_with_an_error_that_names_it_and_goes_on_the_next_time(
    how: str, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start(how, 3.0)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert (
        "Error: the network gave no sign of life for 3 s and was given up; what is committed is kept" in said
    )
    assert f"Kept in {tmp_path / 'catalog'}; of this run: 4 of the 8 files to read." in said
    assert _photos(tmp_path / "catalog") == 4
    process = start("nothing", 60.0)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, _photos(tmp_path / "catalog")) == (0, 8), said


def test_an_index_whose_network_holds_the_interpreter_is_ended_with_an_error_that_names_it(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start("native with the lock", 3.0)
    _, said = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, said
    assert "Error: birdsearch gave no sign of life for " in said
    assert "; at work: the network" in said
    assert "what was committed is kept, and the same command goes on from there" in said
    assert _photos(tmp_path / "catalog") == 4


@pytest.mark.parametrize(("how", "number"), [("python", signal.SIGINT), ("native", signal.SIGTERM)])
def test_a_signal_ends_an_index_whose_network_is_stuck_and_it_says_what_is_kept(
    how: str, number: signal.Signals, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start(how, 0)
    _until_stuck(process)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == (130 if number == signal.SIGINT else 143), said
    word = "Interrupted." if number == signal.SIGINT else "Terminated."
    kept = f"{word} Kept in {tmp_path / 'catalog'}: 4 photos; of this run: 4 of the 8 files to read. The next run"
    assert kept in said
    assert _photos(tmp_path / "catalog") == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_index_whose_network_holds_the_interpreter(
    number: signal.Signals, start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start("native with the lock", 0, grace_s=2.0)
    _until_stuck(process)
    # Signs of life come about once a second.
    time.sleep(1.5)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, said
    assert (
        f"Error: birdsearch was told to end by {number.name} and had not ended 2 s later; at work: " in said
    )


def test_sigterm_ends_a_service_whose_network_holds_the_interpreter(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, make_photo: MakePhoto
) -> None:
    process = start("nothing", 60.0)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    new = make_photo(tmp_path / "new.png", 99, size=(8, 8)).read_bytes()
    program = PROGRAM.replace("batches == 2", "batches == 1")
    catalog = ("--catalog", str(tmp_path / "catalog"))
    with subprocess.Popen(
        [sys.executable, "-c", program, *("native with the lock", "2", "serve", "--port", "0"), *catalog],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stdout is not None
        url = re.search(r"http://\S+", service.stdout.readline())
        assert url is not None

        def ask() -> None:
            with contextlib.suppress(httpx.HTTPError):
                httpx.post(f"{url[0]}/api/search", files={"photo": ("new.png", new)}, timeout=60)

        asking = threading.Thread(target=ask)
        asking.start()
        _until_stuck(service)
        time.sleep(1.5)
        service.send_signal(signal.SIGTERM)
        _, said = service.communicate(timeout=60)
        asking.join(timeout=60)
    assert service.returncode == -signal.SIGKILL, said
    assert "Error: birdsearch was told to end by SIGTERM and had not ended 2 s later; at work: serve" in said


def test_a_command_that_is_done_and_cannot_exit_is_ended() -> None:
    code = HELD + (
        "import threading\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "print('done', flush=True)\n"
        "watchdog.ending()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "0", "2"], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "done\n")
    assert "Error: birdsearch was done and had not ended 2 s later; at work: a test" in done.stderr


def test_a_command_that_is_stopped_for_a_while_is_not_ended() -> None:
    code = HELD + "print('here', flush=True)\nsys.stdin.readline()\nwatchdog.ending()\n"
    with subprocess.Popen(
        [sys.executable, "-c", code, "2", "60"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(5)
        process.send_signal(signal.SIGCONT)
        time.sleep(1)
        assert process.poll() is None
        _, said = process.communicate("\n", timeout=60)
    assert (process.returncode, said) == (0, "")


def test_a_watchdog_goes_with_its_process_even_if_that_is_killed() -> None:
    code = HELD + (
        "import subprocess\n"
        "watchers = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(__import__('os').getpid())],"
        " capture_output=True, text=True).stdout.split()\n"
        "print(watchers[0], flush=True)\nsys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "60", "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        watcher = int(process.stdout.readline())
        os.kill(watcher, 0)
        process.kill()
        process.wait()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            status = Path(f"/proc/{watcher}/stat").read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        if status.rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError(f"the watchdog {watcher} runs on")


def test_help_starts_no_watchdog() -> None:
    code = "import sys, birdsearch.cli as cli\nsys.argv[1:] = ['index', '--help']\nprint(cli._watchdog())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def test_a_limit_that_is_no_number_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "birdsearch", "status"],
        env={**os.environ, "BIRDSEARCH_STALL_SECONDS": "soon"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "Error: BIRDSEARCH_STALL_SECONDS is 'soon'; it has to be a number of seconds"
    )

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from birdsearch.errors import BirdsearchError, InvalidInputError
from birdsearch.model.images.decode import FileDigests, decode_photo, digest_file
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.model.images.worker import process
from birdsearch.model.images.worker.pool import (
    Decoded,
    DecodePool,
    DecodeResult,
    DecodeTask,
    Failed,
    Known,
    Verdict,
)
from birdsearch.model.images.worker.process import HELD_TASKS

SEED = 20240614
SIZE = (32, 48)
LIMITS = PhotoLimits()
WORKER = "birdsearch.model.images.worker.child"

# The real worker, in which a photo whose file name begins with "bad-" meets the fault that is named there.
FAULTY_WORKER = """
    import os, signal, sys, time
    from birdsearch.model.images.worker import child

    decode = child.decode_photo
    read = child.read_file
    names = {}

    def read_file(path, *rest):
        current = os.path.basename(path)
        if current.startswith(b"bad-read-hang"):
            time.sleep(1000)
        if current.startswith(b"bad-read-crash"):
            os.kill(os.getpid(), signal.SIGBUS)
        data = read(path, *rest)
        names[data] = current
        return data

    def decode_photo(data, **named):
        current = names[data]
        if current.startswith(b"bad-crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if current.startswith(b"bad-hang"):
            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL})
            time.sleep(1000)
        if current.startswith(b"bad-memory"):
            bytearray(1 << 40)
        if current.startswith(b"bad-exit"):
            os._exit(7)
        if current.startswith(b"bad-raise"):
            raise RuntimeError("not foreseen")
        if current.startswith(b"bad-talk"):
            os.write(int(sys.argv[1]), b"\\0\\0\\0\\2{}")
        return decode(data, **named)

    child.read_file = read_file
    child.decode_photo = decode_photo
    sys.exit(child.main(sys.argv[1:]))
"""


def picture(seed: int) -> bytes:
    rng = np.random.default_rng([SEED, seed])
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def scan_bomb() -> bytes:
    file = io.BytesIO()
    Image.new("L", (2000, 2000), 90).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * 60_000 + data[-2:]


def task(path: Path, content: bytes | None = None) -> DecodeTask:
    if content is not None:
        path.write_bytes(content)
    status = path.stat()
    return DecodeTask(path.name, os.fsencode(path), status.st_size, status.st_mtime_ns)


@pytest.fixture
def faulty(tmp_path: Path) -> tuple[str, ...]:
    script = tmp_path / "faulty_worker.py"
    script.write_text(textwrap.dedent(FAULTY_WORKER))
    return (sys.executable, str(script))


def pool(workers: int = 2, limits: PhotoLimits = LIMITS, **options: Any) -> DecodePool:
    return DecodePool(workers, SIZE, limits, **options)


def by_key(results: Iterator[DecodeResult]) -> dict[object, DecodeResult]:
    collected: dict[object, DecodeResult] = {}
    for result in results:
        assert result.task.key not in collected
        collected[result.task.key] = result
    return collected


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def children_of(process: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == process and fields[0] != "Z":
                found.append(int(entry.name))
    return found


# What comes out


def test_every_task_gives_one_result_equal_to_decoding_here(tmp_path: Path) -> None:
    tasks = [task(tmp_path / f"{number}.jpg", picture(number)) for number in range(12)]
    with pool() as decoders:
        results = by_key(decoders.run(tasks))
    assert set(results) == {one.key for one in tasks}
    for one in tasks:
        result, data = results[one.key], Path(os.fsdecode(one.path)).read_bytes()
        assert isinstance(result, Decoded)
        assert result.task is one
        assert result.digests == digest_file(data)
        expected = decode_photo(data, input_size=SIZE, limits=LIMITS)
        np.testing.assert_array_equal(result.photo.pixels, expected.pixels)
        assert result.photo.pixels.flags.writeable
        for name in ("format", "width", "height", "capture", "phash", "sharpness"):
            assert getattr(result.photo, name) == getattr(expected, name)


def test_a_known_photo_is_hashed_and_not_decoded(tmp_path: Path) -> None:
    tasks = [
        task(tmp_path / "a.jpg", picture(1)),
        task(tmp_path / "b.jpg", b"<html>"),
        task(tmp_path / "a.jpg"),
    ]
    known = {digest_file(content) for content in (picture(1), b"<html>")}
    tasks[2] = DecodeTask("again", *(getattr(tasks[2], name) for name in ("path", "size", "mtime_ns")))
    with pool(judge=lambda _, digests: Verdict.skip() if digests in known else Verdict()) as decoders:
        results = by_key(decoders.run(tasks))
    assert all(isinstance(result, Known) for result in results.values())
    assert {result.digests for result in results.values()} == known


@pytest.mark.parametrize("workers", [1, 2])
def test_pixels_are_never_those_of_another_task(tmp_path: Path, workers: int) -> None:
    rng = np.random.default_rng(SEED)
    tasks = [task(tmp_path / f"{number}.jpg", picture(number)) for number in range(60)]
    skipped = {digest_file(picture(number)) for number in range(60) if rng.random() < 0.4}
    with pool(
        workers, judge=lambda _, digests: Verdict.skip() if digests in skipped else Verdict()
    ) as decoders:
        results = by_key(decoders.run(tasks))
    assert len(results) == 60
    for number in range(60):
        result = results[f"{number}.jpg"]
        if digest_file(picture(number)) in skipped:
            assert isinstance(result, Known)
        else:
            assert isinstance(result, Decoded)
            expected = decode_photo(picture(number), input_size=SIZE, limits=LIMITS)
            np.testing.assert_array_equal(result.photo.pixels, expected.pixels)


def test_the_way_to_decode_reaches_the_worker(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (1200, 900), (9, 99, 200)).save(file, "JPEG")
    one = task(tmp_path / "a.jpg", file.getvalue())
    ways = {}
    for mode in ("scaled", "full"):
        with pool(1, decode=mode) as decoders:
            (result,) = decoders.run([one])
        assert isinstance(result, Decoded)
        assert (result.photo.width, result.photo.height) == (1200, 900)
        ways[mode] = result.photo.decoded
    assert ways == {"scaled": "scaled 1/2", "full": "full"}
    with pytest.raises(InvalidInputError, match="'half' is none of"):
        pool(1, decode="half")


def test_failures_carry_what_was_found_out(tmp_path: Path) -> None:
    tasks = [
        task(tmp_path / "page.jpg", b"<html>"),
        task(tmp_path / "cut.jpg", picture(1)[:-400]),
        DecodeTask("gone", os.fsencode(tmp_path / "gone.jpg"), 1, 1),
    ]
    with pool() as decoders:
        results = by_key(decoders.run(tasks))
    failures = {key: result for key, result in results.items() if isinstance(result, Failed)}
    assert {key: (failed.error.stage, failed.error.code) for key, failed in failures.items()} == {
        "page.jpg": ("format", "not-a-picture"),
        "cut.jpg": ("decode", "truncated"),
        "gone": ("read", "vanished"),
    }
    assert failures["page.jpg"].digests == digest_file(b"<html>")
    assert failures["gone"].digests is None
    assert failures["gone"].error.transient


def test_names_of_any_bytes_reach_the_worker(tmp_path: Path) -> None:
    one = task(tmp_path / os.fsdecode(b"caf\xe9\n\x1b.jpg"), picture(1))
    with pool(1) as decoders:
        (result,) = decoders.run([one])
    assert isinstance(result, Decoded)


def test_no_task_and_many_runs_are_served_by_the_same_workers(tmp_path: Path) -> None:
    one = task(tmp_path / "a.jpg", picture(1))
    with pool() as decoders:
        assert list(decoders.run([])) == []
        list(decoders.run([one]))
        first = decoders.process_ids
        list(decoders.run([one]))
        assert decoders.process_ids == first


def test_tasks_are_taken_only_as_workers_come_free(tmp_path: Path) -> None:
    one = task(tmp_path / "a.jpg", picture(1))
    taken = 0

    def endless() -> Iterator[DecodeTask]:
        nonlocal taken
        while True:
            taken += 1
            yield one

    with pool() as decoders:
        results = decoders.run(endless())
        for given in range(1, 20):
            next(results)
            # What two workers have in hand, and one more.
            assert taken <= given + 2 * HELD_TASKS + 1
        results.close()


def test_workers_below_one_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least 1 worker, got 0"):
        pool(0)


def test_no_worker_loads_torch_or_faiss() -> None:
    code = (
        f"import sys, {WORKER}; "
        "print({'torch', 'torchvision', 'faiss', 'onnxruntime', 'sqlalchemy', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Faults


@pytest.mark.parametrize(
    ("fault", "stage", "code", "says"),
    [
        ("bad-crash", "decode", "crashed", "SIGSEGV"),
        ("bad-exit", "decode", "crashed", "exit status 7"),
        ("bad-hang", "decode", "deadline", "longer than 1 s"),
        ("bad-memory", "decode", "out-of-memory", "memory"),
        ("bad-raise", "decode", "corrupt", "not foreseen"),
        ("bad-talk", "decode", "crashed", ""),
        ("bad-read-crash", "read", "crashed", "SIGBUS"),
    ],
)
def test_a_fault_costs_one_photo_and_no_other(
    tmp_path: Path, faulty: tuple[str, ...], fault: str, stage: str, code: str, says: str
) -> None:
    names = ["0.jpg", "1.jpg", f"{fault}-1.jpg", "2.jpg", "3.jpg", f"{fault}-2.jpg", "4.jpg", "5.jpg"]
    tasks = [task(tmp_path / name, picture(number)) for number, name in enumerate(names)]
    # Long enough for the others on a busy machine, and short where it is waited for.
    limits = PhotoLimits(deadline_s=1 if code == "deadline" else 20)
    with pool(limits=limits, command=faulty) as decoders:
        results = by_key(decoders.run(tasks))
    assert set(results) == set(names)
    for name, result in results.items():
        if not str(name).startswith("bad"):
            assert isinstance(result, Decoded), name
            continue
        assert isinstance(result, Failed)
        assert (result.error.stage, result.error.code) == (stage, code)
        assert says in result.error.reason


def test_what_a_lost_worker_had_in_hand_is_done_by_the_next(tmp_path: Path, faulty: tuple[str, ...]) -> None:
    names = ["0.jpg", "bad-crash.jpg", "1.jpg", "bad-hang.jpg", "2.jpg", "bad-read-crash.jpg", "3.jpg"]
    names += ["bad-memory.jpg", "bad-talk.jpg", "4.jpg", "bad-exit.jpg", "5.jpg", "6.jpg"]
    tasks = [task(tmp_path / name, picture(number)) for number, name in enumerate(names)]
    # One worker, so that whatever goes wrong goes wrong with other tasks in its hands.
    with pool(1, PhotoLimits(deadline_s=5), command=faulty) as decoders:
        results = by_key(decoders.run(tasks))
    assert {name for name, result in results.items() if isinstance(result, Decoded)} == {
        name for name in names if not name.startswith("bad")
    }
    codes = {name: result.error.code for name, result in results.items() if isinstance(result, Failed)}
    assert codes == {
        "bad-crash.jpg": "crashed",
        "bad-hang.jpg": "deadline",
        "bad-read-crash.jpg": "crashed",
        "bad-memory.jpg": "out-of-memory",
        "bad-talk.jpg": "crashed",
        "bad-exit.jpg": "crashed",
    }


def test_a_read_that_hangs_is_ended(
    tmp_path: Path, faulty: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "read_seconds", lambda size: 0.2 if size else 0.0)
    tasks = [task(tmp_path / name, picture(1)) for name in ("bad-read-hang.jpg", "0.jpg", "1.jpg")]
    with pool(command=faulty) as decoders:
        results = by_key(decoders.run(tasks))
    hung = results.pop("bad-read-hang.jpg")
    assert isinstance(hung, Failed)
    assert (hung.error.stage, hung.error.code, hung.error.transient) == ("read", "deadline", True)
    assert [type(result) for result in results.values()] == [Decoded] * 2


def test_a_scan_bomb_ends_at_the_deadline_and_the_others_go_on(tmp_path: Path) -> None:
    tasks = [task(tmp_path / "bomb.jpg", scan_bomb())]
    tasks += [task(tmp_path / f"{number}.jpg", picture(number)) for number in range(6)]
    with pool(limits=PhotoLimits(deadline_s=0.5)) as decoders:
        results = by_key(decoders.run(tasks))
    bomb = results.pop("bomb.jpg")
    assert isinstance(bomb, Failed)
    assert (bomb.error.stage, bomb.error.code, bomb.error.transient) == ("decode", "deadline", False)
    assert all(isinstance(result, Decoded) for result in results.values())


def test_a_worker_that_is_killed_while_it_decodes_is_replaced(tmp_path: Path) -> None:
    bomb, good = task(tmp_path / "bomb.jpg", scan_bomb()), task(tmp_path / "good.jpg", picture(1))
    shots: list[int] = []

    def shoot(_: DecodeTask, __: FileDigests) -> Verdict:
        if not shots:
            # The worker has read the file, and decodes it after this.
            shots.extend(decoders.process_ids)
            threading.Timer(0.5, os.kill, (shots[0], signal.SIGABRT)).start()
        return Verdict()

    with pool(1, judge=shoot) as decoders:
        results = decoders.run([bomb, good])
        failed = next(results)
        assert isinstance(failed, Failed)
        assert failed.error.code == "crashed"
        assert "SIGABRT" in failed.error.reason
        assert isinstance(next(results), Decoded)
        assert decoders.process_ids[0] != shots[0]


def test_a_worker_that_died_while_idle_costs_no_photo(tmp_path: Path) -> None:
    one = task(tmp_path / "a.jpg", picture(1))
    with pool() as decoders:
        list(decoders.run([one]))
        for process in decoders.process_ids:
            os.kill(process, signal.SIGKILL)
        results = list(decoders.run([one] * 4))
    assert [type(result) for result in results] == [Decoded] * 4


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not hold to the limit on address space")
def test_a_photo_that_needs_too_much_memory_is_recorded(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("1", (14000, 14000)).save(file, "PNG")
    tasks = [task(tmp_path / "huge.png", file.getvalue()), task(tmp_path / "good.jpg", picture(1))]
    # Pillow holds a picture with a byte a pixel and more; the libraries themselves take most of the rest.
    with pool(1, memory_bytes=600 << 20) as decoders:
        results = by_key(decoders.run(tasks))
    huge = results["huge.png"]
    assert isinstance(huge, Failed)
    assert (huge.error.stage, huge.error.code) == ("decode", "out-of-memory")
    assert isinstance(results["good.jpg"], Decoded)


def test_workers_that_do_not_start_are_an_error_that_says_why(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no Pillow here')")
    one = task(tmp_path / "a.jpg", picture(1))
    with pool(command=command) as decoders, pytest.raises(BirdsearchError, match="no Pillow here"):
        list(decoders.run([one]))


def test_a_result_that_waited_while_nobody_listened_is_not_late(tmp_path: Path) -> None:
    tasks = [task(tmp_path / f"{number}.jpg", picture(number)) for number in range(4)]
    with pool(limits=PhotoLimits(deadline_s=0.5)) as decoders:
        results = []
        for result in decoders.run(tasks):
            results.append(result)
            # Longer than the deadline and its grace: an embedding of a large batch.
            time.sleep(2 if len(results) == 1 else 0)
    assert [type(result) for result in results] == [Decoded] * 4


# Endings


def test_closing_midway_ends_the_busy_workers_and_leaves_no_zombie(tmp_path: Path) -> None:
    bomb, good = task(tmp_path / "bomb.jpg", scan_bomb()), task(tmp_path / "good.jpg", picture(1))
    with pool() as decoders:
        results = decoders.run([bomb, good, good])
        assert isinstance(next(results), Decoded)
        processes = decoders.process_ids
        assert len(processes) == 2
        results.close()
        assert len(decoders.process_ids) < 2
        # The pool can be used again.
        assert [type(result) for result in decoders.run([good])] == [Decoded]
    assert decoders.process_ids == ()
    assert not any(is_running(process) for process in processes)


def test_an_error_of_the_caller_ends_the_workers(tmp_path: Path) -> None:
    def tasks() -> Iterator[DecodeTask]:
        yield task(tmp_path / "bomb.jpg", scan_bomb())
        raise RuntimeError("the disk is gone")

    with pool() as decoders:
        processes = decoders.process_ids
        with pytest.raises(RuntimeError, match="the disk is gone"):
            list(decoders.run(tasks()))
    assert not any(is_running(process) for process in processes)


PARENT = """
    import os, sys
    from birdsearch.model.images.worker.pool import DecodePool, DecodeTask, Verdict
    from birdsearch.model.images.photo import PhotoLimits

    def said(task, digests):
        print("decoding", flush=True)
        return Verdict()

    path = sys.argv[1]
    status = os.stat(path)
    with DecodePool(2, (32, 48), PhotoLimits(deadline_s=2), judge=said) as pool:
        for result in pool.run([DecodeTask(0, os.fsencode(path), status.st_size, status.st_mtime_ns)]):
            print(type(result).__name__, result.error.code, flush=True)
"""


def start_parent(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the workers in /proc")
def test_workers_of_a_killed_parent_end(tmp_path: Path) -> None:
    bomb = task(tmp_path / "bomb.jpg", scan_bomb())
    with start_parent(Path(os.fsdecode(bomb.path))) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "decoding\n"
        workers = children_of(parent.pid)
        assert len(workers) == 2
        parent.kill()
        parent.wait()
        # The idle one sees its connection close, the busy one comes to its deadline.
        assert eventually(lambda: not any(is_running(worker) for worker in workers))


def test_an_interrupt_of_the_terminal_does_not_reach_the_workers(tmp_path: Path) -> None:
    one = task(tmp_path / "a.jpg", picture(1))
    with pool() as decoders:
        # Straight after the start, when Python itself would still act on it.
        assert all(os.getpgid(process) != os.getpgid(0) for process in decoders.process_ids)
        while not all(worker.is_ready for worker in decoders._workers):
            list(decoders.run([one]))
        for process in decoders.process_ids:
            os.kill(process, signal.SIGINT)
        before = decoders.process_ids
        list(decoders.run([one] * 4))
        assert decoders.process_ids == before


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    page = task(tmp_path / "page.jpg", b"<html>")
    with start_parent(Path(os.fsdecode(page.path))) as parent:
        assert parent.stdout is not None
        assert parent.stdout.read() == "decoding\nFailed not-a-picture\n"
        assert parent.wait() == 0


def test_a_module_in_the_working_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "PIL.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    one = task(tmp_path / "a.jpg", picture(1))
    with pool(1) as decoders:
        assert [type(result) for result in decoders.run([one])] == [Decoded]

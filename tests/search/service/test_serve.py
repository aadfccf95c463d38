"""`birdsearch serve` as a process: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A start that is refused."""
    return subprocess.run(
        [sys.executable, "-m", "birdsearch", "serve", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


@contextlib.contextmanager
def _started(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that listens, and its URL."""
    command = [sys.executable, "-m", "birdsearch", "serve", "--port", "0", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = re.search(r"http://\S+", line)
            if url is None:
                process.kill()
                raise AssertionError(f"it did not start: {line}{process.communicate()[1]}")
            yield process, url[0]
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_where_it_listens_and_ends_when_it_is_told_to(
    catalog_path: Path, number: signal.Signals
) -> None:
    with _started("--catalog", str(catalog_path), "--read-only") as (process, url):
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
        with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 0), timeout=30) as opened:
            # A request that has begun is finished.
            body = b'{"token": "t"}'
            head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            opened.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
            _until_in_flight(url)
            process.send_signal(number)
            _until_refused(url)
            opened.sendall(body[5:])
            assert opened.recv(65536).startswith(b"HTTP/1.1 204 ")
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == ""
    assert err == ""


def _until_in_flight(url: str) -> None:
    for _ in range(500):
        if "birdsearch_requests_in_flight 2.0\n" in httpx.get(f"{url}/metrics").text:
            return
    raise AssertionError("the request did not arrive")


def _until_refused(url: str) -> None:
    for _ in range(5000):
        try:
            httpx.get(f"{url}/healthz")
        except httpx.TransportError:
            return
    raise AssertionError("the server went on listening")


def test_a_port_that_is_taken_is_an_error(catalog_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _run("--catalog", str(catalog_path), "--port", str(port))
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_address_of_another_machine_is_an_error(catalog_path: Path) -> None:
    done = _run("--catalog", str(catalog_path), "--host", "192.0.2.1", BIRDSEARCH_TOKEN="t" * 16)
    assert done.returncode == 1
    assert "192.0.2.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_catalog_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = _run("--catalog", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "there is no catalog here" in done.stderr
    assert done.stdout == ""


def test_other_machines_are_not_let_in_without_a_token(catalog_path: Path) -> None:
    for host in ("0.0.0.0", "::"):
        done = _run("--catalog", str(catalog_path), "--host", host, "--port", "0")
        assert done.returncode == 2
        assert "--token-file" in done.stderr


def test_the_token_comes_from_a_file_or_the_environment(catalog_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from the file alone\n")
    shared = ("--catalog", str(catalog_path), "--host", "0.0.0.0", "--read-only")
    for arguments, environment, token in (
        (("--token-file", str(file)), {}, "from the file alone"),
        ((), {"BIRDSEARCH_TOKEN": "from the environment"}, "from the environment"),
    ):
        with _started(*shared, *arguments, **environment) as (_, url):
            local = url.replace("0.0.0.0", "127.0.0.1")
            assert httpx.get(f"{local}/metrics").status_code == 401
            headers = {"Authorization": f"Bearer {token}"}
            assert httpx.get(f"{local}/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize("content", ["", "\n", "  \nsecond line\n", "t\u00fcr\n"])
def test_a_token_file_without_a_token_is_refused(catalog_path: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content, encoding="utf-8")
    done = _run("--catalog", str(catalog_path), "--port", "0", "--token-file", str(file))
    assert done.returncode == 2
    assert "token" in done.stderr


def test_an_extra_that_is_missing_is_named(catalog_path: Path) -> None:
    program = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Without(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        missing = name in ('fastapi', 'uvicorn', 'python_multipart')\n"
        "        return None if missing else super().find_spec(name, path, target)\n"
        "sys.meta_path[sys.meta_path.index(PathFinder)] = Without\n"
        "sys.argv = ['birdsearch', *sys.argv[1:]]\n"
        "from birdsearch.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "serve", "--catalog", str(catalog_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "pip install 'birdsearch[serve]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_loads_no_server() -> None:
    program = (
        "import sys\n"
        "from birdsearch.cli import cli\n"
        "cli.main(['serve', '--help'], standalone_mode=False)\n"
        "print(sorted({'fastapi', 'uvicorn', 'torch', 'numpy', 'sqlalchemy', 'pydantic'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--token-file" in done.stdout


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM)])
def test_being_told_twice_ends_it_in_order_too(
    catalog_path: Path, numbers: tuple[signal.Signals, ...]
) -> None:
    with _started("--catalog", str(catalog_path), "--read-only") as (process, url):
        with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 0), timeout=30) as opened:
            head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            opened.sendall(head + b"Content-Length: 100\r\n\r\n{")
            _until_in_flight(url)
            process.send_signal(numbers[0])
            _until_refused(url)
            process.send_signal(numbers[1])
            if numbers[1] is signal.SIGINT:
                # Without waiting for the request, which is never finished.
                process.wait(timeout=8)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in err

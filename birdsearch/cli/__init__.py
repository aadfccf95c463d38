"""The command line: one file per command group, each loaded only when it is used."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from birdsearch.cli.interruption import Terminated, kept_by
from birdsearch.errors import BirdsearchError, StalledError
from birdsearch.version import __version__

if TYPE_CHECKING:
    from birdsearch.cli.watchdog import Watchdog

__all__ = ["cli", "main", "run"]

# Command -> "module:attribute". Each module imports torch, faiss and sqlalchemy inside its functions only.
COMMANDS = {
    "index": "birdsearch.cli.index:index",
    "query": "birdsearch.cli.query:query",
    "annotate": "birdsearch.cli.annotate:annotate",
    "probe": "birdsearch.cli.probe:probe",
    "label": "birdsearch.cli.label:label",
    "mislabelled": "birdsearch.cli.label:mislabelled",
    "dedup": "birdsearch.cli.dedup:dedup",
    "sightings": "birdsearch.cli.sightings:sightings",
    "similar": "birdsearch.cli.sightings:similar",
    "deployments": "birdsearch.cli.deployments:deployments",
    "cluster": "birdsearch.cli.cluster:cluster",
    "eval": "birdsearch.cli.evaluate:evaluate",
    "roots": "birdsearch.cli.roots:roots",
    "forget": "birdsearch.cli.forget:forget",
    "status": "birdsearch.cli.catalog:status",
    "check": "birdsearch.cli.catalog:check",
    "rebuild": "birdsearch.cli.catalog:rebuild",
    "serve": "birdsearch.cli.serve:serve",
    "bench": "birdsearch.cli.bench:bench",
    "model": "birdsearch.cli.model:model",
    "demo": "birdsearch.cli.demo:demo",
}


# The system's words for a place where nothing more can be written.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, attribute = target.split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(
    cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="birdsearch")
def cli() -> None:
    """Search bird photos by how the bird looks: index an archive once, then ask.

    \b
    birdsearch index ./archive      embed every photo, incrementally
    birdsearch query photo.jpg      similar photos and the likely species
    """  # noqa: D301 click takes the backspace for a paragraph that is not to be wrapped


def _on_sigterm(signum: int, frame: object) -> NoReturn:  # noqa: ARG001
    raise Terminated


def _told(error: OSError) -> str:
    """Say of an error of the system, that no command foresaw, what happened and what to do."""
    place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    if error.errno in _FULL:
        return (
            f"{place}the disk is full, or over a quota or limit ({error.strerror}); what was committed to the "
            "catalog is safe. Free some space and run again"
        )
    return f"{place}{error.strerror}"


def main() -> NoReturn:
    """Run the command line; exit 0 ok, 1 failed, 2 usage, 130 interrupted, 143 terminated."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    # Collections while modules load find nothing, and those at the end free what the process gives back anyway:
    # together more than a tenth of a second.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    code, cut_off, watchdog = 130, True, None
    try:
        watchdog = _watchdog()
        code, cut_off = run(sys.argv[1:], watchdog)
    except BirdsearchError as error:
        click.echo(f"Error: {error}", err=True)
        code, cut_off = 1, False
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
    except Terminated:
        click.echo("Terminated.", err=True)
        code = 143
    _leave(code, watchdog, cut_off=cut_off)


def run(arguments: Sequence[str], watchdog: Watchdog | None = None) -> tuple[int, bool]:
    """Run one command in this process, and say on stderr what went wrong.

    Args:
        arguments: What stands behind `birdsearch` on the command line.
        watchdog: What watches this process, if anything does.

    Returns:
        The exit status, and whether the command was given up: a thread of its may still be at work.
    """
    try:
        code = cli.main(list(arguments), prog_name="birdsearch", standalone_mode=False, obj=watchdog)
    except click.exceptions.Abort as error:
        is_interrupted = isinstance(error.__cause__, KeyboardInterrupt)
        if is_interrupted:
            _say_kept("Interrupted.", arguments, error.__cause__)
        return 130, is_interrupted
    except SystemExit as error:
        code = error.code
    except click.ClickException as error:
        error.show()
        return error.exit_code, False
    except BirdsearchError as error:
        click.echo("\n".join([f"Error: {error}", *_notes(error)]), err=True)
        return 1, isinstance(error, StalledError)
    except KeyboardInterrupt as error:
        _say_kept("Interrupted.", arguments, error)
        return 130, True
    except Terminated as error:
        _say_kept("Terminated.", arguments, error)
        return 143, True
    except BrokenPipeError:
        # The reader (`| head`) went away; what it wanted it got.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        return 0, False
    except OSError as error:
        if error.errno is None:
            raise
        click.echo(f"Error: {_told(error)}", err=True)
        return 1, False
    return code if isinstance(code, int) else 0, False


def _watchdog() -> Watchdog | None:
    """Return a watchdog for what may take long; None where only help is asked for."""
    if len(sys.argv) < 2 or {"--help", "-h", "--version"} & set(sys.argv):
        return None
    from birdsearch.cli.watchdog import Watchdog
    from birdsearch.settings import Settings

    limit_s = Settings.from_environment().stall_s
    # Where there can be none, the command goes on without it.
    with contextlib.suppress(OSError):
        return Watchdog(limit_s, " ".join(sys.argv[1:2]))
    return None


def _notes(error: BaseException | None) -> list[str]:
    return getattr(error, "__notes__", [])


def _say_kept(what: str, arguments: Sequence[str], error: BaseException | None) -> None:
    kept = kept_by(list(arguments))
    click.echo(" ".join([what, *(_notes(error) or ([kept] if kept else []))]), err=True)


def _leave(code: int, watchdog: Watchdog | None, *, cut_off: bool) -> NoReturn:
    """Exit; without waiting for threads where what they do was given up."""
    if watchdog is not None:
        watchdog.ending()
    if cut_off and threading.active_count() > 1 + (watchdog is not None):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)

"""The command line: one file per command group, each loaded only when it is used."""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import os
import signal
import sys
from typing import NoReturn

import click

from birdsearch import __version__
from birdsearch.errors import BirdsearchError

__all__ = ["cli", "main"]

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


class _Terminated(BaseException):
    """SIGTERM arrived: unwinds like KeyboardInterrupt, so that the batch in hand is finished."""


def _on_sigterm(signum: int, frame: object) -> NoReturn:  # noqa: ARG001
    raise _Terminated


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
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BirdsearchError as error:
        click.echo(f"Error: {error}", err=True)
        code = 1
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        code = 130
    except _Terminated:
        click.echo("Terminated.", err=True)
        code = 143
    except BrokenPipeError:
        # The reader (`| head`) went away; what it wanted it got.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        code = 0
    except OSError as error:
        if error.errno is None:
            raise
        click.echo(f"Error: {_told(error)}", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)

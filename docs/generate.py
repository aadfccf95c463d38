"""Write the command line's and the Python interface's reference from the code, or check that they are current.

Usage: python docs/generate.py [--check]
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from birdsearch.cli import cli

FOLDER = Path(__file__).parent
PACKAGES = (
    "birdsearch",
    "birdsearch.errors",
    "birdsearch.model",
    "birdsearch.indexer",
    "birdsearch.search",
    "birdsearch.client",
    "birdsearch.data.synthetic",
)
HEADER = "<!-- Written by `make docs` from the code; edit the code instead. -->\n\n"


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            inner = click.Context(child, info_name=name, parent=context, terminal_width=100)
            yield from _commands(child, inner)


def command_line() -> str:
    """The reference of the command line, as its own help prints it."""
    context = click.Context(cli, info_name="birdsearch", terminal_width=100)
    parts = [HEADER + "# Command line\n"]
    for path, text in _commands(cli, context):
        level = "#" * (1 + len(path.split()))
        parts.append(f"{level} {path}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


class _Plain(str):
    """An annotation that is shown as it is written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _signature(thing: object) -> str:
    try:
        signature = inspect.signature(thing)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    parameters = [
        parameter.replace(annotation=_plain(parameter.annotation), default=_short(parameter.default))
        for name, parameter in signature.parameters.items()
        if name not in {"self", "cls"}
    ]
    shown = signature.replace(parameters=parameters, return_annotation=_plain(signature.return_annotation))
    # Addresses differ between runs.
    return re.sub(r" at 0x[0-9a-f]+", "", str(shown))


def _text(thing: object) -> str:
    """A docstring, its sections as they are laid out in the code."""
    summary, _, rest = (inspect.getdoc(thing) or "").partition("\n\n")
    return summary if not rest else f"{summary}\n\n```text\n{rest}\n```"


def _short(default: object) -> object:
    """A default value; a whole table is not spelled out."""
    return _Plain("<table>") if isinstance(default, Mapping) else default


def _plain(annotation: object) -> object:
    return _Plain(annotation) if isinstance(annotation, str) else annotation


def _members(thing: type) -> dict[str, object]:
    """What a class has, with what it takes from other classes of birdsearch."""
    owners = [owner for owner in thing.__mro__ if owner.__module__.startswith("birdsearch.")]
    members: dict[str, object] = {}
    for owner in owners:
        for name, value in vars(owner).items():
            members.setdefault(name, value)
    return members


def _document(name: str, thing: object, level: str) -> Iterator[str]:
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        yield f"{level} `{name}`\n\n{_text(thing)}\n"
        return
    if inspect.isclass(thing):
        shown = "" if not dataclasses.is_dataclass(thing) else _signature(thing)
        yield f"{level} `{name}{shown}`\n\n{_text(thing)}\n"
        for member, value in _members(thing).items():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if member.startswith("_") or not (inspect.isfunction(function) or isinstance(function, property)):
                continue
            shown = "" if isinstance(function, property) else _signature(function)
            yield f"{level}# `{name}.{member}{shown}`\n\n{_text(function)}\n"
    elif callable(thing):
        yield f"{level} `{name}{_signature(thing)}`\n\n{_text(thing)}\n"
    else:
        yield f"{level} `{name}`\n"


def interface() -> str:
    """The reference of the Python interface: what the packages' `__all__` lists."""
    parts = [HEADER + "# Python interface\n"]
    for package in PACKAGES:
        module = importlib.import_module(package)
        parts.append(f"## {package}\n\n{_text(module)}\n")
        for name in sorted(module.__all__):
            if not name.startswith("__"):
                parts += _document(name, getattr(module, name), "###")
    return "\n".join(parts)


def main() -> int:
    """Write both files, or with `--check` say which are not current."""
    stale = []
    for name, text in (("cli.md", command_line()), ("api.md", interface())):
        path = FOLDER / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        sys.stderr.write(f"{', '.join(stale)}: not what the code says; run `make docs`\n")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())

"""Write the reference of the command line and of the Python interface from the code.

Usage: python docs/generate.py FOLDER
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from birdsearch.cli import cli

PACKAGES = (
    "birdsearch",
    "birdsearch.errors",
    "birdsearch.model",
    "birdsearch.indexer",
    "birdsearch.search",
    "birdsearch.client",
    "birdsearch.data.synthetic",
)
_SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Note", "Example", "Examples")
_LONGEST = 100
_NO_WRAP = "\b"


# -- the command line ----------------------------------------------------------------------------------------


def command_line() -> str:
    """Return the reference of the command line as Markdown, one heading a command."""
    return "\n\n".join(["# Command line", *_command(cli, click.Context(cli, info_name="birdsearch"))]) + "\n"


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    path = context.command_path
    yield f"{'#' * (1 + len(path.split()))} {path}"
    yield _fenced(f"{path} {' '.join(command.collect_usage_pieces(context))}")
    for block in inspect.cleandoc(command.help or "").split("\n\n"):
        lines = block.split("\n")
        yield _fenced("\n".join(lines[1:])) if lines[0] == _NO_WRAP else _joined(block)
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    yield "\n".join(f"- `{name}`: {_joined(text)}" for name, text in filter(None, records) if text)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _command(child, click.Context(child, info_name=name, parent=context))


# -- the Python interface ------------------------------------------------------------------------------------


def interface() -> str:
    """Return the reference of what the packages' `__all__` lists as Markdown, one heading a name."""
    parts = ["# Python interface"]
    for package in PACKAGES:
        module = importlib.import_module(package)
        parts += [f"## {package}", *_docstring(module)]
        for name in sorted(module.__all__):
            if not name.startswith("__"):
                parts += _document(package, name, getattr(module, name))
    return "\n\n".join(parts) + "\n"


def undocumented() -> list[str]:
    """Return the public names, with their packages, that have no docstring of their own; constants need none."""
    missing = []
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            thing = getattr(module, name)
            members = [(name, thing)] if _is_documentable(thing) else []
            if inspect.isclass(thing) and not issubclass(thing, BaseException):
                members += [(f"{name}.{member}", value) for member, value in _members(thing)]
            missing += [f"{package}.{path}" for path, value in members if not _own_docstring(value)]
    return missing


def _document(package: str, name: str, thing: object) -> Iterator[str]:
    yield f"### {name}"
    if inspect.isclass(thing):
        if dataclasses.is_dataclass(thing):
            yield _signature(name, thing)
        yield from _docstring(thing)
        if not issubclass(thing, BaseException):
            for member, value in _members(thing):
                yield f"#### {name}.{member}"
                if not isinstance(value, property):
                    yield _signature(f"{name}.{member}", value)
                yield from _docstring(value)
    elif inspect.isroutine(thing):
        yield _signature(name, thing)
        yield from _docstring(thing)
    else:
        kind = "Module" if inspect.ismodule(thing) else f"Constant of type `{type(thing).__name__}`"
        yield f"{kind} of `{package}`."


def _members(thing: type) -> list[tuple[str, object]]:
    """Return the public methods and properties of a class, inherited ones of birdsearch included."""
    members: dict[str, object] = {}
    for owner in thing.__mro__:
        if owner.__module__.startswith("birdsearch."):
            for name, value in vars(owner).items():
                function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                members.setdefault(name, function)
    return [
        (name, value)
        for name, value in members.items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    ]


def _is_documentable(thing: object) -> bool:
    return inspect.isclass(thing) or inspect.isroutine(thing)


def _own_docstring(thing: object) -> str:
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    # A dataclass without a docstring gets its signature as one.
    is_made = inspect.isclass(thing) and text.startswith(f"{thing.__name__}(")
    return "" if is_made else text


class _Code(str):
    """Source text that `repr` shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _signature(name: str, thing: object) -> str:
    """Return a fenced block with the name and its parameters, one a line where they are long."""
    try:
        signature = inspect.signature(thing)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return _fenced(name, "python")
    shown = signature.replace(
        parameters=[
            parameter.replace(annotation=_code(parameter.annotation), default=_default(parameter.default))
            for parameter in signature.parameters.values()
            if parameter.name not in {"self", "cls"}
        ],
        return_annotation=_code(signature.return_annotation),
    )
    line = f"{name}{shown}"
    if len(line) <= _LONGEST:
        return _fenced(line, "python")
    parameters: list[str] = []
    last = None
    for parameter in shown.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and last not in {
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        }:
            parameters.append("    *,")
        parameters.append(f"    {parameter},")
        last = parameter.kind
    end = "" if shown.return_annotation is inspect.Signature.empty else f" -> {shown.return_annotation}"
    return _fenced("\n".join([f"{name}(", *parameters, f"){end}"]), "python")


def _default(default: object) -> object:
    """Return a default as source text: a function by its name, a table not spelled out."""
    if isinstance(default, Mapping):
        return _Code("{...}")
    if callable(default) and default is not inspect.Parameter.empty:
        return _Code(getattr(default, "__name__", type(default).__name__).replace("<lambda>", "..."))
    return default


def _code(annotation: object) -> object:
    return _Code(annotation) if isinstance(annotation, str) else annotation


# -- docstrings ----------------------------------------------------------------------------------------------


def _docstring(thing: object) -> Iterator[str]:
    """Yield a Google style docstring as Markdown paragraphs, its sections as lists."""
    for block in _own_docstring(thing).split("\n\n"):
        title, _, rest = block.partition("\n")
        if title.rstrip(":") in _SECTIONS and title.endswith(":"):
            yield f"**{title}**"
            yield from _section(title.rstrip(":"), textwrap.dedent(rest))
        elif block:
            yield _markdown(block)


def _section(title: str, text: str) -> Iterator[str]:
    if title in {"Args", "Attributes", "Raises"}:
        items = re.split(r"\n(?=\S)", text)
        yield "\n".join(re.sub(r"^([\w.*, ]+): ", r"- `\1`: ", _joined(item)) for item in items)
    else:
        yield _markdown(text)


def _markdown(block: str) -> str:
    """Return a paragraph on one line; lists and indented examples keep their lines."""
    if re.search(r"^(?: {2,}|>>> )", block, re.MULTILINE) and not re.search(r"^[-*] ", block, re.MULTILINE):
        head, _, code = block.partition("\n") if not block.startswith((" ", ">>>")) else ("", "", block)
        return f"{head}\n\n{_fenced(textwrap.dedent(code))}".strip()
    return "\n".join(_joined(item) for item in re.split(r"\n(?=[-*] )", block))


def _joined(text: str) -> str:
    return " ".join(text.split())


def _fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"


def main(folder: Path) -> None:
    """Write `cli.md` and `api.md` into a folder, which is made if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("cli.md", command_line()), ("api.md", interface())):
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

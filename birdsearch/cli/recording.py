"""Options of the commands that record verified labels, recording, and the report of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from birdsearch.cli.annotate_review import photo_paths, text_of, warn
from birdsearch.cli.output import Column, catalog_option, emit, format_option, write_json, write_rows

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.annotations import AnnotationSummary
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.model.taxonomy import Taxon, Taxonomy
    from birdsearch.search.annotate.photos import Matched, Problem, Proposals

__all__ = [
    "Recording",
    "allow_new_option",
    "named_taxon",
    "naming_options",
    "record_labels",
    "recording_options",
    "skip_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_VERDICTS = ("positive", "negative", "uncertain")
_SHOWN_PROBLEMS = 20
_SHOWN_TAXA = 10

_COUNTS: list[Column] = [("taxon", "Taxon"), ("verdict", "Verdict"), ("photos", "Photos")]
_LABELS: list[Column] = [
    ("photo_id", "Id"),
    ("path", "Photo"),
    ("taxon", "Taxon"),
    ("scientific_name", "Scientific name"),
    ("verdict", "Verdict"),
    ("where", "From"),
]


@dataclass(frozen=True, slots=True)
class Recording:
    """Settings of a command that records labels: where, by whom, and how strictly."""

    catalog: Path
    who: str
    taxonomy: Path | None
    skip_bad: bool
    dry_run: bool
    fmt: str

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Recording:
        """Build it from the options of `recording_options`."""
        # A command without --skip-bad passes over what it cannot record.
        values = {"skip_bad": True} | dict(options)
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})


def _login_name() -> str:
    import getpass

    try:
        return getpass.getuser() or "unknown"
    except (OSError, KeyError, ImportError):
        return "unknown"


def _with_options(options: Sequence[Callable[[Any], Any]]) -> Callable[[_Command], _Command]:
    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


recording_options = _with_options(
    [
        click.option(
            "--taxonomy",
            metavar="FILE.csv",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Add a table of taxa first; see `birdsearch annotate taxa --help`.",
        ),
        click.option(
            "--who",
            metavar="NAME",
            default=_login_name,
            show_default="your login name",
            help="Who verified the labels.",
        ),
        click.option("--dry-run", is_flag=True, help="Show what would be recorded; write nothing."),
        catalog_option,
        format_option,
    ]
)
skip_option = click.option("--skip-bad", is_flag=True, help="Record the rest if some cannot be recorded.")
allow_new_option = click.option(
    "--allow-new", is_flag=True, help="Record names that are not known, as new taxa."
)
naming_options = _with_options(
    [
        click.option("--as", "name", metavar="NAME", required=True, help="Any name of a species."),
        click.option("--verdict", type=click.Choice(_VERDICTS), default="positive", show_default=True),
        click.option("--allow-new", is_flag=True, help="Record a name that is not known, as a new taxon."),
        click.option("--scientific-name", metavar="NAME", default="", help="Of the new taxon."),
        click.option("--family", metavar="NAME", default="", help="Of the new taxon."),
        click.option("--order", metavar="NAME", default="", help="Of the new taxon."),
    ]
)


def named_taxon(taxonomy: Taxonomy, options: Mapping[str, Any]) -> Matched:
    """Return the taxon that the options of `naming_options` name."""
    from birdsearch.errors import InvalidInputError
    from birdsearch.indexer.catalog.taxa import new_taxon
    from birdsearch.search.annotate.photos import Matched, NameMatcher

    details = [name for name in ("scientific_name", "family", "order") if options[name]]
    shown = "".join(f"--{name.replace('_', '-')}" for name in details[:1])
    if details and not options["allow_new"]:
        raise click.UsageError(f"{shown} is for a new taxon; give --allow-new too")

    def create(common_name: str, _scientific_name: str) -> Taxon:
        return new_taxon(common_name, options["scientific_name"], options["family"], options["order"])

    match = NameMatcher(taxonomy, create if options["allow_new"] else None).match(options["name"])
    if not isinstance(match, Matched):
        advice = "; --allow-new records it as a new taxon" if match.is_unknown else ""
        raise InvalidInputError(f"{match.reason}{advice}")
    if details and not match.is_new:
        raise InvalidInputError(
            f"{match.taxon.common_name} is known already, so {shown} is not needed; "
            "`birdsearch annotate taxa FILE.csv` changes what is known of it"
        )
    return match


def record_labels(
    session: Recording, source: str, propose: Callable[[CatalogStore, Taxonomy], Proposals]
) -> None:
    """Record what a source says, or only show it, and print what came of it."""
    from birdsearch.errors import InvalidInputError
    from birdsearch.indexer.catalog.annotations import preview, record
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.catalog.taxa import add_taxa, catalog_taxonomy, extended, parse_taxa

    text = None if session.taxonomy is None else text_of(session.taxonomy)
    taxa = () if text is None else parse_taxa(text, str(session.taxonomy))
    mode: Any = "read" if session.dry_run else "edit"
    with CatalogStore.open(session.catalog, mode, purpose="birdsearch annotate") as store:
        proposals = propose(store, extended(catalog_taxonomy(store), taxa))
        is_refused = bool(proposals.problems) and not session.skip_bad
        summary = None
        if proposals.labels and not is_refused:
            items = [label.item() for label in proposals.labels]
            if session.dry_run:
                summary = preview(store, items)
            else:
                if text is not None:
                    warn(add_taxa(store, text, str(session.taxonomy)).warnings)
                summary = record(store, items, session.who, source)
        rows = _label_rows(store, proposals)
    for note in proposals.notes:
        click.echo(f"Note: {note}", err=True)
    _print_problems(proposals.problems, session.fmt)
    _print_recorded(session, proposals, rows, summary)
    if summary is None:
        if not is_refused:
            raise InvalidInputError("there is nothing to record: no label was found")
        verb = "would be" if session.dry_run else "was"
        others = f", or give --skip-bad to record the other {len(rows)}" if rows else ""
        raise InvalidInputError(
            f"nothing {verb} recorded, since {len(proposals.problems)} cannot be; correct them{others}"
        )


def _label_rows(store: CatalogStore, proposals: Proposals) -> list[dict[str, object]]:
    paths = photo_paths(store, {label.photo_id for label in proposals.labels})
    return [
        {
            "photo_id": label.photo_id,
            "path": paths[label.photo_id],
            "taxon": label.taxon.common_name,
            "scientific_name": label.taxon.scientific_name,
            "verdict": label.verdict,
            "where": label.where,
        }
        for label in proposals.labels
    ]


def _print_problems(problems: Sequence[Problem], fmt: str) -> None:
    if not problems:
        return
    shown = problems if len(problems) <= _SHOWN_PROBLEMS + 1 else problems[:_SHOWN_PROBLEMS]
    click.echo("Cannot be recorded:", err=True)
    for problem in shown:
        click.echo(f"  {problem.where}: {problem.reason}", err=True)
    if len(shown) < len(problems):
        rest = "" if fmt == "json" else "; --format json lists all"
        click.echo(f"  and {len(problems) - len(shown)} more{rest}", err=True)
    if any(problem.is_unknown_name for problem in problems):
        click.echo(
            "--allow-new records names that are not known as new taxa; --taxonomy FILE.csv says what they are.",
            err=True,
        )


def _print_recorded(
    session: Recording,
    proposals: Proposals,
    rows: list[dict[str, object]],
    summary: AnnotationSummary | None,
) -> None:
    recorded = rows if summary is not None else []
    if session.fmt == "json":
        write_json(
            {
                "run": None if summary is None else summary.run_id,
                "dry_run": session.dry_run,
                "added": 0 if summary is None else summary.added,
                "replaced": 0 if summary is None else summary.replaced,
                "unchanged": 0 if summary is None else summary.unchanged,
                "new_taxa": [taxon.common_name for taxon in proposals.new_taxa] if summary else [],
                "labels": recorded,
                "problems": [
                    {"where": problem.where, "reason": problem.reason} for problem in proposals.problems
                ],
                "notes": list(proposals.notes),
            }
        )
    elif session.fmt == "csv":
        write_rows(recorded, [(key, key) for key, _ in _LABELS], "csv")
    elif summary is not None:
        if session.dry_run:
            write_rows(recorded, _LABELS, "table")
        else:
            counts = Counter((row["taxon"], row["verdict"]) for row in recorded)
            write_rows(
                [
                    {"taxon": taxon, "verdict": verdict, "photos": count}
                    for (taxon, verdict), count in sorted(counts.items(), key=str)
                ],
                _COUNTS,
                "table",
            )
        emit("")
        emit(_summary_line(summary, [taxon.common_name for taxon in proposals.new_taxa]))


def _summary_line(summary: AnnotationSummary, new_taxa: Sequence[str]) -> str:
    is_preview = summary.run_id is None
    labels = f"{summary.added} label{'' if summary.added == 1 else 's'}"
    parts = [f"{labels} would be recorded" if is_preview else f"{labels} recorded as run {summary.run_id}"]
    if summary.replaced:
        parts.append(f"{summary.replaced} earlier ended by them")
    if summary.unchanged:
        parts.append(f"{summary.unchanged} in force already")
    if new_taxa:
        rest = f" and {len(new_taxa) - _SHOWN_TAXA} more" if len(new_taxa) > _SHOWN_TAXA else ""
        parts.append(f"new taxa: {', '.join(new_taxa[:_SHOWN_TAXA])}{rest}")
    if is_preview:
        end = "nothing was written"
    elif summary.added:
        end = f"`birdsearch annotate undo {summary.run_id}` takes them back"
    else:
        end = ""
    return "; ".join([*parts, end] if end else parts)

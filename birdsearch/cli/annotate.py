"""`birdsearch annotate`: record what is on photos, see what was recorded, take it back."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from birdsearch.cli.annotate_review import list_labels, photo_paths, taxa, text_of, undo, warn
from birdsearch.cli.output import Column, catalog_option, emit, format_option, write_json, write_rows

if TYPE_CHECKING:
    from birdsearch.indexer.annotations import AnnotationSummary
    from birdsearch.indexer.catalog import CatalogStore
    from birdsearch.model.species import Taxon, Taxonomy
    from birdsearch.search.annotate import Matched, NameMatcher, Problem, Proposals

__all__ = ["annotate"]

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
class _Session:
    """What the commands that record have in common: where, by whom, and how strictly."""

    catalog: Path
    who: str
    taxonomy: Path | None
    skip_bad: bool
    dry_run: bool
    fmt: str

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> _Session:
        """From the options of `_recording`."""
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


_recording = _with_options(
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
_skipping = click.option("--skip-bad", is_flag=True, help="Record the rest if some cannot be recorded.")
_inventing = click.option("--allow-new", is_flag=True, help="Record names that are not known, as new taxa.")
_naming = _with_options(
    [
        click.option("--as", "name", metavar="NAME", required=True, help="Any name of a species."),
        click.option("--verdict", type=click.Choice(_VERDICTS), default="positive", show_default=True),
        click.option("--allow-new", is_flag=True, help="Record a name that is not known, as a new taxon."),
        click.option("--scientific-name", metavar="NAME", default="", help="Of the new taxon."),
        click.option("--family", metavar="NAME", default="", help="Of the new taxon."),
        click.option("--order", metavar="NAME", default="", help="Of the new taxon."),
    ]
)


@click.group(short_help="Record verified labels; list them, take them back.")
def annotate() -> None:
    """Record what is on photos, as people verified it.

    \b
    birdsearch annotate set a.jpg "#12" --as "Eurasian hoopoe"
    birdsearch annotate import labels.csv      columns: path, taxon
    birdsearch annotate folders ./by-species   folders named after species
    birdsearch annotate undo                   take the last of these back

    A label belongs to the content of a photo, so it stays when the photo is renamed or moved. Nothing is ever
    written to a photo, and nothing recorded is ever lost: a new label takes the place of an old one, which
    --history still shows and `undo` brings back.
    """  # noqa: D301 click takes the backspace for a paragraph that is not to be wrapped


for _command in (list_labels, undo, taxa):
    annotate.add_command(_command)


# -- recording -----------------------------------------------------------------------------------------------


@annotate.command("set", short_help="Label photos one by one.")
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True)
@_naming
@_skipping
@_recording
def set_label(photos: tuple[str, ...], **options: Any) -> None:
    """Label each PHOTO: a file, or "#12" for the photo of the catalog with this id."""
    from birdsearch.search.annotate import from_photos

    def propose(store: CatalogStore, taxonomy: Taxonomy) -> Proposals:
        return from_photos(store, photos, _named(taxonomy, options), options["verdict"])

    _record(_Session.of(options), "set", propose)


@annotate.command(short_help="Label a photo and those that look like it.")
@click.argument("photo", metavar="PHOTO")
@click.option(
    "-k", default=20, show_default=True, type=click.IntRange(min=0), help="Hits, itself not counted."
)
@click.option(
    "--min-similarity",
    metavar="S",
    default=-1.0,
    type=click.FloatRange(-1.0, 1.0),
    help="Only hits at least so similar, up to 1.",
)
@_naming
@_skipping
@_recording
def hits(photo: str, k: int, min_similarity: float, **options: Any) -> None:
    """Label PHOTO, which is in the catalog, and the photos that `birdsearch query PHOTO -k K` finds.

    Look at them first: `birdsearch query PHOTO -k K --sheet hits.html`, or --dry-run here.
    """
    from birdsearch.indexer.crawl import display_path
    from birdsearch.search.annotate import from_hits
    from birdsearch.search.engine import Catalog

    def propose(store: CatalogStore, taxonomy: Taxonomy) -> Proposals:
        named = _named(taxonomy, options)
        asking = Catalog(store.path, store, read_only=True)
        return from_hits(asking, photo, named, k, min_similarity, options["verdict"])

    _record(_Session.of(options), f"hits of {display_path(os.fsencode(photo))}", propose)


@annotate.command("import", short_help="Record the labels of a table, CSV or Parquet.")
@click.argument("table", metavar="TABLE", type=click.Path(path_type=Path, dir_okay=False))
@_inventing
@_skipping
@_recording
def import_table(table: Path, allow_new: bool, **options: Any) -> None:
    """Record the labels of TABLE: CSV (commas, semicolons or tabs; UTF-8) or Parquet.

    Its columns are `path` (or `photo_id`, or `sha256`) and `taxon` (or `species`, `common_name`,
    `scientific_name`, `label`); `verdict` and `who` may be there as well. A path is absolute, or starts at the
    table's folder or at a folder that was indexed; one such as `trip/**/hoopoe*.jpg` means all that match.

    Nothing is recorded unless every row can be, or --skip-bad is given.
    """
    from birdsearch.indexer.crawl import display_path
    from birdsearch.search.annotate import from_table

    def propose(store: CatalogStore, taxonomy: Taxonomy) -> Proposals:
        return from_table(store, table, _matcher(taxonomy, allow_new=allow_new))

    _record(_Session.of(options), f"table {display_path(os.fsencode(table))}", propose)


@annotate.command(short_help="Label photos by the names of their folders.")
@click.argument("folders", metavar="[FOLDER...]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--level",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Whose name counts: 0 the folder that a photo is in, 1 the one above, ...",
)
@_inventing
@_recording
def folders(folders: tuple[Path, ...], level: int, allow_new: bool, **options: Any) -> None:
    """Label the photos under each FOLDER, or all of the catalog's, by the names of the folders they are in.

    Numbers before a name are left out: "001.Black_footed_Albatross" is "Black footed albatross". Folders whose
    names are no species are listed, and their photos are not labelled.
    """
    from birdsearch.search.annotate import from_folders

    def propose(store: CatalogStore, taxonomy: Taxonomy) -> Proposals:
        return from_folders(store, _matcher(taxonomy, allow_new=allow_new), folders, level)

    _record(_Session.of(options), "folders", propose)


@annotate.command(short_help="Label photos by the keywords in them.")
@click.argument("folders", metavar="[FOLDER...]", nargs=-1, type=click.Path(path_type=Path))
@_recording
def keywords(folders: tuple[Path, ...], **options: Any) -> None:
    """Label the photos under each FOLDER, or all of the catalog's, by their keywords (XMP and IPTC).

    Keywords are read from the photos and from `.xmp` files beside them. Those that are the name of a species
    count; a photo whose keywords name two species is listed and not labelled.
    """
    from tqdm import tqdm

    from birdsearch.search.annotate import from_keywords

    def propose(store: CatalogStore, taxonomy: Taxonomy) -> Proposals:
        with tqdm(desc="reading", unit=" photos", disable=not sys.stderr.isatty(), leave=False) as bar:
            return from_keywords(store, taxonomy, folders, lambda done: bar.update(done - bar.n))

    _record(_Session.of(options), "keywords", propose)


def _matcher(taxonomy: Taxonomy, *, allow_new: bool) -> NameMatcher:
    from birdsearch.indexer.taxa import new_taxon
    from birdsearch.search.annotate import NameMatcher

    return NameMatcher(taxonomy, new_taxon if allow_new else None)


def _named(taxonomy: Taxonomy, options: Mapping[str, Any]) -> Matched:
    """The taxon that the options of `_naming` name."""
    from birdsearch.errors import InvalidInputError
    from birdsearch.indexer.taxa import new_taxon
    from birdsearch.search.annotate import Matched, NameMatcher

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


def _record(session: _Session, source: str, propose: Callable[[CatalogStore, Taxonomy], Proposals]) -> None:
    """Record what a source says, or only show it, and print what came of it."""
    from birdsearch.errors import InvalidInputError
    from birdsearch.indexer.annotations import preview, record
    from birdsearch.indexer.catalog import CatalogStore
    from birdsearch.indexer.taxa import add_taxa, catalog_taxonomy, extended, parse_taxa

    text = None if session.taxonomy is None else text_of(session.taxonomy)
    taxa = () if text is None else parse_taxa(text, str(session.taxonomy))
    mode: Any = "read" if session.dry_run else "write"
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
    session: _Session,
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

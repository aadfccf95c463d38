"""`birdsearch annotate`: record what is on photos, see what was recorded, take it back."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdsearch.cli.annotate_review import list_labels, taxa, undo
from birdsearch.cli.recording import (
    Recording,
    allow_new_option,
    named_taxon,
    naming_options,
    record_labels,
    recording_options,
    skip_option,
)

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.model.taxonomy import Taxonomy
    from birdsearch.search.annotate.photos import NameMatcher, Proposals

__all__ = ["annotate"]


@click.group(short_help="Record verified labels; list them, take them back.")
def annotate() -> None:
    """Record what is on photos, as people verified it.

    \b
    birdsearch annotate set a.jpg "#12" --as "Eurasian hoopoe"
    birdsearch annotate import labels.csv      columns: path, taxon
    birdsearch annotate folders ./by-species   folders named after species
    birdsearch annotate undo                   take the last of these back

    A label belongs to the picture: it stays when the photo is renamed or moved, or its metadata edited. Nothing
    is ever written to a photo, and nothing recorded is ever lost: a new label takes the place of an old one,
    which --history still shows and `undo` brings back.
    """  # noqa: D301 click takes the backspace for a paragraph that is not to be wrapped


for _command in (list_labels, undo, taxa):
    annotate.add_command(_command)


# -- recording -----------------------------------------------------------------------------------------------


@annotate.command("set", short_help="Label photos one by one.")
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True)
@naming_options
@skip_option
@recording_options
def set_label(photos: tuple[str, ...], **options: Any) -> None:
    """Label each PHOTO: a file, or "#12" for the photo of the catalog with this id."""
    from birdsearch.search.annotate.photos import from_photos

    def propose(store: CatalogStore, taxonomy: Taxonomy) -> Proposals:
        return from_photos(store, photos, named_taxon(taxonomy, options), options["verdict"])

    record_labels(Recording.of(options), "set", propose)


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
@naming_options
@skip_option
@recording_options
def hits(photo: str, k: int, min_similarity: float, **options: Any) -> None:
    """Label PHOTO, which is in the catalog, and the photos that `birdsearch query PHOTO -k K` finds.

    Look at them first: `birdsearch query PHOTO -k K --sheet hits.html`, or --dry-run here.
    """
    from birdsearch.display_path import display_path
    from birdsearch.search.annotate.photos import find_stored, from_hits
    from birdsearch.search.catalog import Catalog

    def propose(store: CatalogStore, taxonomy: Taxonomy) -> Proposals:
        named = named_taxon(taxonomy, options)
        photo_id = find_stored(store, photo)
        found = Catalog(store.path, store, read_only=True).query(photo_id, k)
        return from_hits(store, photo_id, found, named, min_similarity, options["verdict"])

    record_labels(Recording.of(options), f"hits of {display_path(os.fsencode(photo))}", propose)


@annotate.command("import", short_help="Record the labels of a table, CSV or Parquet.")
@click.argument("table", metavar="TABLE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--path-column", metavar="TITLE", help="The column that names photos, if it is not found.")
@click.option("--taxon-column", metavar="TITLE", help="The column that names taxa, if it is not found.")
@allow_new_option
@skip_option
@recording_options
def import_table(
    table: Path, path_column: str | None, taxon_column: str | None, allow_new: bool, **options: Any
) -> None:
    """Record the labels of TABLE: CSV (commas, semicolons or tabs) or Parquet.

    Its columns are `path` (or `photo_id`, or `sha256`) and `taxon` (or `species`, `common_name`,
    `scientific_name`, `label`); `verdict` and `who` may be there as well. The columns of Timelapse, Camtrap DP,
    digiKam, Lightroom, exiftool and iNaturalist are known. A path is absolute, or starts at the table's folder or
    at a folder that was indexed; one such as `trip/**/hoopoe*.jpg` means all that match. `Mallard?` is uncertain,
    `not Mallard` negative.

    Nothing is recorded unless every row can be, or --skip-bad is given.
    """
    from birdsearch.display_path import display_path
    from birdsearch.search.annotate.label_table import TableColumns
    from birdsearch.search.annotate.photos import from_table

    columns = TableColumns(path_column, taxon_column)

    def propose(store: CatalogStore, taxonomy: Taxonomy) -> Proposals:
        return from_table(store, table, _matcher(taxonomy, allow_new=allow_new), columns)

    record_labels(Recording.of(options), f"table {display_path(os.fsencode(table))}", propose)


@annotate.command(short_help="Label photos by the names of their folders.")
@click.argument("folders", metavar="[FOLDER...]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--level",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Whose name counts: 0 the folder that a photo is in, 1 the one above, ...",
)
@allow_new_option
@recording_options
def folders(folders: tuple[Path, ...], level: int, allow_new: bool, **options: Any) -> None:
    """Label the photos under each FOLDER, or all of the catalog's, by the names of the folders they are in.

    Numbers before a name are left out: "001.Black_footed_Albatross" is "Black footed albatross". Folders whose
    names are no species are listed, and their photos are not labelled.
    """
    from birdsearch.search.annotate.photos import from_folders

    def propose(store: CatalogStore, taxonomy: Taxonomy) -> Proposals:
        return from_folders(store, _matcher(taxonomy, allow_new=allow_new), folders, level)

    record_labels(Recording.of(options), "folders", propose)


@annotate.command(short_help="Label photos by the keywords in them.")
@click.argument("folders", metavar="[FOLDER...]", nargs=-1, type=click.Path(path_type=Path))
@recording_options
def keywords(folders: tuple[Path, ...], **options: Any) -> None:
    """Label the photos under each FOLDER, or all of the catalog's, by their keywords (XMP and IPTC).

    Keywords are read from the photos and from `.xmp` files beside them. Those that are the name of a species
    count; a photo whose keywords name two species is listed and not labelled.
    """
    from tqdm import tqdm

    from birdsearch.search.annotate.photos import from_keywords

    def propose(store: CatalogStore, taxonomy: Taxonomy) -> Proposals:
        with tqdm(desc="reading", unit=" photos", disable=not sys.stderr.isatty(), leave=False) as bar:
            return from_keywords(store, taxonomy, folders, lambda done: bar.update(done - bar.n))

    record_labels(Recording.of(options), "keywords", propose)


def _matcher(taxonomy: Taxonomy, *, allow_new: bool) -> NameMatcher:
    from birdsearch.indexer.catalog.taxa import new_taxon
    from birdsearch.search.annotate.photos import NameMatcher

    return NameMatcher(taxonomy, new_taxon if allow_new else None)

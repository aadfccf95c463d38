"""`birdsearch cluster name`, `merge`, `split`, `label` and `undo`: clusters corrected by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdsearch.cli.output import catalog_option, emit
from birdsearch.cli.recording import Recording, named_taxon, record_labels, recording_options

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.clusters import ClusterState
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.model.taxonomy import Taxonomy
    from birdsearch.search.annotate.photos import Proposals

__all__ = ["label", "merge", "name", "split", "undo"]

_PURPOSE = "birdsearch cluster"


@click.command(short_help="Give a cluster a name.")
@click.argument("cluster_id", metavar="ID", type=click.IntRange(min=1))
@click.argument("name", metavar="NAME")
@catalog_option
def name(cluster_id: int, name: str, catalog: Path) -> None:
    """Name the cluster ID; "" takes its name away. A name stays with its cluster from run to run."""
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.clusters.edit import name_cluster

    with CatalogStore.open(catalog, "edit", purpose=_PURPOSE) as store:
        state = name_cluster(store, cluster_id, name)
    given = state.names.get(cluster_id)
    _done(f"cluster {cluster_id} " + ("has no name now" if given is None else f"is {given!r} now"), state)


@click.command(short_help="Put clusters into one.")
@click.argument("cluster_ids", metavar="ID ID...", type=click.IntRange(min=1), nargs=-1, required=True)
@catalog_option
def merge(cluster_ids: tuple[int, ...], catalog: Path) -> None:
    """Put the members of all clusters into the first, which stays."""
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.clusters.edit import merge_clusters

    with CatalogStore.open(catalog, "edit", purpose=_PURPOSE) as store:
        state = merge_clusters(store, cluster_ids)
    _done(f"cluster {cluster_ids[0]} has {_size(state, cluster_ids[0])} photos now", state)


@click.command(short_help="Cut a cluster in parts.")
@click.argument("cluster_id", metavar="ID", type=click.IntRange(min=1))
@click.option("--into", metavar="K", type=click.IntRange(min=2), help="Into so many parts; 2 by default.")
@click.option(
    "--photos",
    metavar="PHOTO",
    multiple=True,
    help="Move these into a new cluster instead: ids between commas, or a file. May be repeated.",
)
@catalog_option
def split(cluster_id: int, into: int | None, photos: tuple[str, ...], catalog: Path) -> None:
    """Cluster the members of ID again by k-means, or move some photos of it into a new cluster.

    The largest part keeps the id and the name. Events are not cut by k-means.
    """
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.clusters.edit import photo_list, split_cluster, split_photos

    if photos and into is not None:
        raise click.UsageError("--into and --photos are two ways to split; give one")
    with CatalogStore.open(catalog, "edit", purpose=_PURPOSE) as store:
        if photos:
            state = split_photos(store, cluster_id, photo_list(store, photos))
        else:
            state = split_cluster(store, cluster_id, into or 2)
    parts = [cluster_id, *state.parameters.get("new", ())]
    _done(", ".join(f"cluster {part} has {_size(state, part)} photos" for part in parts), state)


@click.command(short_help="Go back to the clusters before the last run or edit.")
@catalog_option
def undo(catalog: Path) -> None:
    """Take the last clustering, naming, merge or split back. Labels stay: `birdsearch annotate undo`."""
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.clusters.edit import undo_edit

    with CatalogStore.open(catalog, "edit", purpose=_PURPOSE) as store:
        state = undo_edit(store)
    emit(f"run {state.parameters['undone']} taken back by run {state.run_id}: {len(state.ids)} clusters")


@click.command(short_help="Label all photos of a cluster at once.")
@click.argument("cluster_id", metavar="ID", type=click.IntRange(min=1))
@click.argument("name", metavar="TAXON")
@click.option(
    "--except",
    "excepted",
    metavar="PHOTO",
    multiple=True,
    help="Not this one: ids between commas, or a file. May be repeated.",
)
@click.option(
    "--verdict",
    type=click.Choice(["positive", "negative", "uncertain"]),
    default="positive",
    show_default=True,
)
@click.option("--allow-new", is_flag=True, help="Record a name that is not known, as a new taxon.")
@click.option("--scientific-name", metavar="NAME", default="", help="Of the new taxon.")
@click.option("--family", metavar="NAME", default="", help="Of the new taxon.")
@click.option("--order", metavar="NAME", default="", help="Of the new taxon.")
@recording_options
def label(cluster_id: int, excepted: tuple[str, ...], **options: Any) -> None:
    """Record TAXON as the verified label of all photos of the cluster ID.

    Look at them first: `birdsearch cluster show ID --sheet FILE.png`. `birdsearch annotate undo` takes the labels
    back.
    """
    from birdsearch.search.clusters.edit import label_cluster, label_source, photo_list

    def propose(store: CatalogStore, taxonomy: Taxonomy) -> Proposals:
        named = named_taxon(taxonomy, options)
        return label_cluster(store, cluster_id, named, options["verdict"], photo_list(store, excepted))

    record_labels(Recording.of(options), label_source(cluster_id), propose)


def _size(state: ClusterState, cluster_id: int) -> int:
    return len(state.rows(cluster_id))


def _done(what: str, state: ClusterState) -> None:
    emit(f"{what} (run {state.run_id}); `birdsearch cluster undo` takes it back")

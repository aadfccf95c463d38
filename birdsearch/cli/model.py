"""`birdsearch model`: networks and weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from birdsearch.cli.output import format_option, write_rows
from birdsearch.cli.progress import download_bar

if TYPE_CHECKING:
    from birdsearch.model.inference import Model
    from birdsearch.model.weights import WeightsEntry
    from birdsearch.settings import Settings

__all__ = ["model"]


@click.group(short_help="Networks and weights: list, pull, verify, look.")
def model() -> None:
    """List, fetch, verify and look into models."""


@model.command("list")
@click.option("--networks", is_flag=True, help="List the networks that weights can be for instead.")
@format_option
def list_models(networks: bool, fmt: str) -> None:
    """List the published weights, and where they are on this machine."""
    if networks:
        _list_networks(fmt)
    else:
        _list_weights(fmt)


def _list_networks(fmt: str) -> None:
    from birdsearch.model.config import VARIANTS

    rows: list[dict[str, object]] = [
        {
            "name": config.name,
            "patch": config.patch_size,
            "embedding": config.embed_dim,
            "depth": config.depth,
            "heads": config.num_heads,
        }
        for config in VARIANTS.values()
    ]
    columns = [
        ("name", "Name"),
        ("patch", "Patch"),
        ("embedding", "Embedding"),
        ("depth", "Depth"),
        ("heads", "Heads"),
    ]
    write_rows(rows, columns, fmt)


def _list_weights(fmt: str) -> None:
    from birdsearch.model.weights import WEIGHTS
    from birdsearch.settings import Settings

    settings = Settings.from_environment()
    rows: list[dict[str, object]] = [
        {
            "name": entry.name,
            "network": entry.network,
            "classes": entry.classes,
            "input": f"{entry.input_size[0]}x{entry.input_size[1]}",
            "size_mb": round(entry.size / 1e6, 1),
            "where": _where(entry, settings),
            "licence": entry.licence,
            "description": entry.description,
        }
        for entry in WEIGHTS.values()
    ]
    columns = [
        ("name", "Name"),
        ("network", "Network"),
        ("classes", "Classes"),
        ("input", "Input"),
        ("size_mb", "MB"),
        ("where", "Where"),
        ("licence", "Licence"),
        ("description", "Description"),
    ]
    write_rows(rows, columns, fmt)


@model.command()
@click.argument("name_or_file", metavar="[NAME|FILE]", required=False)
@format_option
def info(name_or_file: str | None, fmt: str) -> None:
    """Show what a weights file holds; the default is the default model's."""
    from birdsearch.model.taxonomy import Taxonomy

    loaded = _load_local(name_or_file)
    resolution = Taxonomy.load().resolve(loaded.classes)
    facts: dict[str, object] = {
        "name": loaded.name,
        "path": str(loaded.path),
        "sha256": loaded.sha256,
        "network": loaded.network,
        "parameters": loaded.parameters,
        "classes": len(loaded.classes),
        "classes_in_the_taxonomy": len(resolution.resolved),
        "embedding": loaded.embedding_size,
        "input": f"{loaded.input_size[0]}x{loaded.input_size[1]}",
        "mean": " ".join(f"{value:g}" for value in loaded.stats.mean),
        "std": " ".join(f"{value:g}" for value in loaded.stats.std),
        "preprocessing": loaded.preprocessing,
        "birder_version": loaded.birder_version,
    }
    if fmt == "json":
        facts["classes_not_in_the_taxonomy"] = list(resolution.unresolved)
    elif resolution.unresolved:
        facts["classes_not_in_the_taxonomy"] = _count_and_few(resolution.unresolved)
    if fmt == "table":
        rows = [{"fact": key.replace("_", " "), "value": value} for key, value in facts.items()]
        write_rows(rows, [("fact", "Fact"), ("value", "Value")], fmt)
    else:
        write_rows([facts], [(key, key) for key in facts], fmt)


@model.command()
@click.argument("name", required=False)
def pull(name: str | None) -> None:
    """Download published weights into the cache, unless they are on this machine."""
    from birdsearch.errors import WeightsError
    from birdsearch.model.weights import DEFAULT_WEIGHTS, WEIGHTS, canonical_name, resolve_weights
    from birdsearch.settings import Settings

    known = canonical_name(name or DEFAULT_WEIGHTS)
    if known is None:
        raise WeightsError(f"no published weights are called {name!r}; known: {', '.join(WEIGHTS)}")
    name = known
    with download_bar(name) as progress:
        path = resolve_weights(name, Settings.from_environment(), download=True, progress=progress)
    click.echo(str(path))


@model.command()
@click.argument("name_or_file", metavar="[NAME|FILE]", required=False)
def verify(name_or_file: str | None) -> None:
    """Check a weights file: its SHA-256 if it is published, its content, and that the network loads it."""
    from birdsearch.model.weights import WEIGHTS

    loaded = _load_local(name_or_file)
    published = [entry.name for entry in WEIGHTS.values() if entry.sha256 == loaded.sha256]
    known = f"the published {published[0]}" if published else "not one of the published files"
    click.echo(f"ok: {loaded.path} is {known}, {loaded.network}, {len(loaded.classes)} classes")
    click.echo(f"sha256 {loaded.sha256}")


@model.command()
@click.argument("name_or_file", metavar="[NAME|FILE]", required=False)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@format_option
def bench(name_or_file: str | None, device: str, fmt: str) -> None:
    """Measure what can run the network on this machine, and remember the fastest for --runtime auto.

    Every runtime computes the same pictures, in turn. The cosine is the least of their embeddings to those of
    torch; a runtime that falls short of what its arithmetic allows is never used.
    """
    from birdsearch.model import DEFAULT_WEIGHTS, RUNTIMES, measure_runtimes
    from birdsearch.model.runtimes.rates import fastest

    rates = measure_runtimes(name_or_file or DEFAULT_WEIGHTS, device=device)
    slowest = next(rate.median for rate in rates if rate.runtime == "torch")
    rows: list[dict[str, object]] = [
        {
            "runtime": rate.runtime,
            "precision": RUNTIMES[rate.runtime].precision,
            "images_per_second": round(rate.median, 1),
            "range": f"{rate.slowest:.0f} to {rate.fastest:.0f}",
            "times_torch": round(rate.median / slowest, 2),
            "cosine": round(rate.cosine, 6),
            "note": "auto" if rate.runtime == fastest(rates) else "" if rate.is_faithful else "not faithful",
        }
        for rate in rates
    ]
    columns = [
        ("runtime", "Runtime"),
        ("precision", "Precision"),
        ("images_per_second", "Images/s"),
        ("range", "Range"),
        ("times_torch", "x torch"),
        ("cosine", "Cosine"),
        ("note", "Note"),
    ]
    write_rows(rows, columns, fmt)


@model.command()
@click.argument("photo", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path), help="Weights file (.pt or .safetensors).")
@click.option("--model", "name", help="Name of published weights; the default unless --weights is given.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder to write to, or a path that the names of the files start with.  [default: current folder]",
)
def features(photo: Path, weights: Path | None, name: str | None, out: Path) -> None:
    """Write a photo's feature maps as arrays (.npz) and as a picture (.png)."""
    import numpy as np

    from birdsearch.model.features import feature_picture
    from birdsearch.model.images.photo import open_photo_file
    from birdsearch.model.weights import DEFAULT_WEIGHTS

    if weights is not None and name is not None:
        raise click.UsageError("--weights and --model exclude each other")
    image = open_photo_file(photo)

    from birdsearch.model.inference import load_model

    with download_bar(name or DEFAULT_WEIGHTS) as progress:
        loaded = load_model(weights or name or DEFAULT_WEIGHTS, progress=progress)
    maps = loaded.detection_features([image])
    prefix = str(out / photo.stem) if out.is_dir() else str(out)
    arrays, picture = Path(f"{prefix}.features.npz"), Path(f"{prefix}.features.png")
    with _write_errors(arrays.parent):
        np.savez_compressed(
            arrays, allow_pickle=False, **{stage: values[0] for stage, values in maps.items()}
        )
        feature_picture(image, maps).save(picture)
    click.echo(str(arrays))
    click.echo(str(picture))


def _load_local(name_or_file: str | None) -> Model:
    """Load weights that are on this machine, the default model's unless others are named."""
    from birdsearch.model.weights import DEFAULT_WEIGHTS, resolve_weights
    from birdsearch.settings import Settings

    settings = Settings.from_environment()
    # Looked for before torch is imported, so that the answer to a wrong name comes at once.
    resolve_weights(name_or_file or DEFAULT_WEIGHTS, settings, download=False)

    from birdsearch.model.inference import load_model

    return load_model(name_or_file or DEFAULT_WEIGHTS, settings=settings, download=False)


def _count_and_few(names: Sequence[str], few: int = 5) -> str:
    rest = f", and {len(names) - few} more" if len(names) > few else ""
    return f"{len(names)}: {', '.join(names[:few])}{rest}"


def _where(entry: WeightsEntry, settings: Settings) -> str:
    from birdsearch.model.weights import cache_folder, find_local

    path = find_local(entry.name, settings)
    if path is None:
        return "not here"
    if entry.is_packaged:
        return "comes with birdsearch"
    return "cached" if path.parent == cache_folder(settings) else "weights dir"


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    from birdsearch.errors import InvalidInputError

    try:
        yield
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be written to: {error.strerror or error}") from error

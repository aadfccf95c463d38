"""`birdsearch serve`: the HTTP API and the gallery."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import click

from birdsearch.cli.output import catalog_option

__all__ = ["serve"]


@click.command(short_help="Serve the catalog to browsers and programs.")
@catalog_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Its first line is what clients have to show.  [or BIRDSEARCH_TOKEN]",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    metavar="NAME",
    multiple=True,
    help="Another name by which the service is called. May be repeated.",
)
@click.option("--originals", is_flag=True, help="Serve the photos themselves, not only thumbnails.")
@click.option("--apply", is_flag=True, help="Let clients move copies to the quarantine.")
@click.option("--exact-places", is_flag=True, help="Show where sensitive species are.")
@click.option("--show-paths", is_flag=True, help="Show absolute paths.")
@click.option("--read-only", is_flag=True, help="Change nothing in the catalog.")
@click.option(
    "--max-upload-mb",
    default=64,
    show_default=True,
    type=click.IntRange(min=1),
    help="Largest request, in MB.",
)
@click.option("--open", "show", is_flag=True, help="Open the gallery in a browser.")
def serve(
    catalog: Path,
    host: str,
    port: int,
    token_file: Path | None,
    allowed_hosts: tuple[str, ...],
    originals: bool,
    apply: bool,
    exact_places: bool,
    show_paths: bool,
    read_only: bool,
    max_upload_mb: int,
    show: bool,
) -> None:
    """Serve the catalog: a gallery for browsers and a JSON API for programs, at one address.

    Only this machine can connect, unless --host says otherwise; then a token is needed. Stops at Ctrl-C or
    SIGTERM, after the requests that are being answered.
    """
    _check_installed()
    # Before NumPy is loaded. Small products of several requests only wait for each other's threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import logging

    from birdsearch.errors import InvalidInputError
    from birdsearch.search.service.options import ServeOptions

    try:
        options = ServeOptions(
            catalog=catalog,
            host=host,
            port=port,
            token=_token(token_file),
            allowed_hosts=allowed_hosts,
            originals=originals,
            apply=apply,
            exact_places=exact_places,
            show_paths=show_paths,
            read_only=read_only,
            max_upload_mb=max_upload_mb,
        )
    except InvalidInputError as error:
        raise click.UsageError(str(error)) from error
    from birdsearch.search.service.server import serve as run

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    def on_listening(url: str) -> None:
        click.echo(f"Serving {catalog} at {url} (Ctrl-C stops)")
        if show:
            click.launch(url)

    run(options, on_listening)


def _check_installed() -> None:
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        if importlib.util.find_spec(module) is None:
            raise click.ClickException(
                f"`birdsearch serve` needs {module}; install it with `pip install 'birdsearch[serve]'`"
            )


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("BIRDSEARCH_TOKEN") or None
    lines = file.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0].strip():
        raise click.UsageError(f"{file}: the file of the token is empty")
    return lines[0].strip()

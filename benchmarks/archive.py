"""Indexing a folder against the script that a user would write: Pillow, the network, FAISS."""

from __future__ import annotations

import shutil
from pathlib import Path

import faiss
import numpy as np
from PIL import Image
from timing import interleaved, report

from birdsearch import Catalog
from birdsearch.model.runtime import Model, load_model

PHOTOS = 96


def make_photos(folder: Path, size: tuple[int, int]) -> list[Path]:
    """Textured photos of one size."""
    folder.mkdir(parents=True)
    paths = []
    for number in range(PHOTOS):
        coarse = np.random.default_rng(number).integers(
            0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8
        )
        paths.append(folder / f"{number:03d}.jpg")
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def script(paths: list[Path], model: Model) -> None:
    """What a user would write."""
    index = faiss.IndexFlatIP(model.embedding_size)
    for start in range(0, len(paths), 32):
        images = [Image.open(path).convert("RGB") for path in paths[start : start + 32]]
        vectors = model.infer(images).embeddings.copy()
        faiss.normalize_L2(vectors)
        index.add(vectors)


def main(folder: Path, scratch: Path, runs: int = 3) -> None:
    """Time both on small photos and on photos of 12 megapixels."""
    model = load_model(scratch / "network.pt")
    for title, size in (("small photos", (320, 240)), ("photos of 12 megapixels", (4000, 3000))):
        paths = make_photos(scratch / title, size)
        catalog = scratch / "catalog"

        def ours(paths: list[Path] = paths, catalog: Path = catalog) -> None:
            shutil.rmtree(catalog, ignore_errors=True)
            with Catalog.open(catalog, "create") as opened:
                opened.index([paths[0].parent], model=model)

        def plain(paths: list[Path] = paths) -> None:
            script(paths, model)

        seconds = interleaved({"birdsearch index": ours, "plain script": plain}, runs)
        report(f"index {title}", seconds, PHOTOS, "photos", folder)

"""Additional tests on real photos and trained weights, where the environment names them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from birdsearch import Catalog
from birdsearch.display_path import display_path
from birdsearch.model import Model, load_model
from birdsearch.model.images.color import ADOBE_RGB, DISPLAY_P3, matrix_profile

pytestmark = pytest.mark.photos

K = 20


@pytest.fixture(scope="module")
def weights(weights_folder: Path) -> Path:
    return next(weights_folder.glob("*.pt"))


@pytest.fixture(scope="module")
def model(weights: Path) -> Model:
    return load_model(weights)


def test_every_file_of_a_real_archive_is_accounted_for_and_nothing_is_embedded_twice(
    photos_folder: Path, model: Model, tmp_path: Path
) -> None:
    files = [path for path in photos_folder.rglob("*") if path.is_file()]
    with Catalog.open(tmp_path / "catalog", "create") as catalog:
        first = catalog.index([photos_folder], model=model)
        print(first)
        failures = catalog.store.failures()
        for failure in failures:
            print(failure.stage, failure.code, display_path(failure.path).rpartition("/")[2], failure.reason)
        assert first.new + first.copies + len(failures) + sum(first.ignored.values()) == len(files)
        assert sum(first.failed.values()) == len(failures)
        counts = catalog.store.counts()
        assert counts.photos == first.embedded == counts.embeddings
        second = catalog.index([photos_folder], model=model)
        print(second)
        assert (second.embedded, second.new, second.unchanged) == (0, 0, first.new + first.copies)
        assert second.failed == first.failed


def _reference_embeddings(weights: Path, paths: list[Path]) -> NDArray[np.float32]:
    """(N, C) by the reference implementation: its network, its loader's checkpoint format, its transform."""
    birder = pytest.importorskip("birder")
    import torch
    from birder.common.fs_ops import load_model as load_reference
    from PIL import Image

    net, info = load_reference(torch.device("cpu"), "xcit_nano12_p16", path=weights, inference=True)
    transform = birder.classification_transform(
        birder.get_size_from_signature(info.signature), info.rgb_stats
    )
    parts = []
    with torch.inference_mode():
        for start in range(0, len(paths), 32):
            images = [Image.open(path).convert("RGB") for path in paths[start : start + 32]]
            parts.append(net.embedding(torch.stack([transform(image) for image in images])).numpy())
    return np.concatenate(parts)


def test_neighbours_and_recall_are_those_of_brute_force_on_the_references_embeddings(
    photos_folder: Path, weights: Path, model: Model, tmp_path: Path
) -> None:
    gallery = sorted((photos_folder / "cub" / "gallery").rglob("*.jpg"))
    queries = sorted((photos_folder / "cub" / "query").rglob("*.jpg"))
    vectors = {}
    for name, paths in (("gallery", gallery), ("query", queries)):
        embeddings = _reference_embeddings(weights, paths).astype(np.float64)
        vectors[name] = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarities = vectors["query"] @ vectors["gallery"].T
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :K]
    with Catalog.open(tmp_path / "catalog", "create") as catalog:
        catalog.index([photos_folder / "cub" / "gallery"], model=model)
        results = catalog.query_many(queries, k=K)
    position = {display_path(os.fsencode(path.resolve())): number for number, path in enumerate(gallery)}
    found = np.array([[position[hit.path] for hit in result.hits] for result in results])

    ours = similarities[np.arange(len(queries))[:, None], found]
    theirs = np.take_along_axis(similarities, order, axis=1)
    differing = found != order
    print(f"{len(queries)} queries, k {K}: {int(differing.sum())} of {differing.size} places differ")
    print(f"largest gap where they differ: {np.abs(ours - theirs).max():.2e}")
    species = np.array([path.parent.name for path in gallery])
    truth = np.array([path.parent.name for path in queries])
    recall = {
        "birdsearch": float((species[found[:, 0]] == truth).mean()),
        "brute force": float((species[order[:, 0]] == truth).mean()),
    }
    print(f"recall@1: {recall}")
    assert not differing.any()
    assert recall["birdsearch"] == recall["brute force"]
    correct = [result.labels[0].name == name for result, name in zip(results, truth, strict=True)]
    print(f"top-1 of the logits: {np.mean(correct):.4f}")


def test_a_photo_in_another_colour_space_has_the_embedding_of_its_srgb_picture(
    photos_folder: Path, model: Model
) -> None:
    from PIL import Image, ImageCms

    srgb = ImageCms.createProfile("sRGB")
    corners = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.34567, 0.35850))
    spaces = {
        "Adobe RGB": ADOBE_RGB,
        "Display P3": DISPLAY_P3,
        "ProPhoto RGB": matrix_profile(corners, (1.8,)),
    }
    photos = sorted(photos_folder.glob("cub/query/*/*.jpg"))[::60][:20]
    assert len(photos) == 20
    for name, profile in spaces.items():
        cosines: dict[str, list[float]] = {"as stored": [], "converted": []}
        same = {"as stored": 0, "converted": 0}
        for path in photos:
            with Image.open(path) as opened:
                original = opened.convert("RGB")
            target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            stored = ImageCms.profileToProfile(
                original, srgb, target, ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB"
            )
            assert stored is not None
            shown = stored.copy()
            stored.info.clear()
            out = model.infer([original, stored, shown])
            unit = out.embeddings / np.linalg.norm(out.embeddings, axis=1, keepdims=True)
            best = out.logits.argmax(1)
            for number, way in enumerate(cosines, start=1):
                cosines[way].append(float(unit[0] @ unit[number]))
                same[way] += int(best[0] == best[number])
        for way, values in cosines.items():
            print(f"{name} {way}: least cosine {min(values):.4f}, same class {same[way]} of {len(photos)}")
        assert min(cosines["converted"]) > 0.99 > min(cosines["as stored"])

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from birdsearch.errors import BirdsearchError
from birdsearch.model import Model, load_model
from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats
from birdsearch.model.inference import measure_runtimes
from birdsearch.model.runtimes.cuda import CHUNK
from birdsearch.model.runtimes.cuda_loader import GpuLoader
from birdsearch.model.runtimes.exports import check_pictures, export_folder
from birdsearch.model.runtimes.rates import fastest, least_cosine, read_rates
from birdsearch.model.runtimes.torch import gpu_name
from birdsearch.model.xcit import XCiT
from birdsearch.settings import Settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "catalog", tmp_path / "cache", None)


@pytest.fixture(scope="module")
def half(weights_file: Path) -> Model:
    return load_model(weights_file, device="cuda", runtime="cuda-fp16")


def _pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 96, 3), dtype=np.uint8)


def test_a_gpu_computes_what_the_processor_computes(weights_file: Path) -> None:
    pixels = np.concatenate([_pixels(9, seed=59), check_pictures((64, 96), 4)])
    expected = load_model(weights_file, runtime="torch").infer_pixels(pixels)
    exact = load_model(weights_file, device="cuda", runtime="torch").infer_pixels(pixels)
    np.testing.assert_allclose(exact.embeddings, expected.embeddings, rtol=0, atol=1e-4)
    half = load_model(weights_file, device="cuda", runtime="cuda-fp16")
    assert (half.device, half.runtime) == ("cuda", "cuda-fp16")
    found = half.infer_pixels(pixels)
    assert (found.embeddings.shape, found.logits.shape) == ((13, 128), (13, 7))
    assert found.embeddings.dtype == found.logits.dtype == np.float32
    assert least_cosine(found.embeddings, expected.embeddings) >= 0.99999


def test_an_embedding_does_not_depend_on_its_batch_to_the_last_bit(half: Model) -> None:
    pixels = _pixels(3 * CHUNK + 5, seed=60)
    whole = half.infer_pixels(pixels).embeddings
    assert len({row.tobytes() for row in whole}) == len(whole)
    for size in (1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3):
        for start in range(0, len(pixels) - size + 1, CHUNK // 2 + 1):
            some = half.infer_pixels(pixels[start : start + size]).embeddings
            assert np.array_equal(some, whole[start : start + size]), (size, start)


def test_threads_share_an_engine(half: Model) -> None:
    batches = [_pixels(CHUNK + 7 * number, seed=61 + number) for number in range(6)]
    expected = [half.infer_pixels(batch).embeddings for batch in batches]
    found: dict[int, list[np.ndarray]] = {number: [] for number in range(len(batches))}

    def work(number: int) -> None:
        for _ in range(20):
            found[number].append(half.infer_pixels(batches[number]).embeddings)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, results in found.items():
        assert len(results) == 20
        assert all(np.array_equal(result, expected[number]) for result in results)


def test_two_loads_give_the_same(half: Model, weights_file: Path) -> None:
    pixels = _pixels(5, seed=67)
    again = load_model(weights_file, device="cuda", runtime="cuda-fp16")
    assert np.array_equal(again.infer_pixels(pixels).embeddings, half.infer_pixels(pixels).embeddings)


def test_no_photos_give_empty_arrays(half: Model) -> None:
    out = half.infer_pixels(np.empty((0, 64, 96, 3), np.uint8))
    assert (out.embeddings.shape, out.logits.shape) == ((0, 128), (0, 7))


def test_what_leaves_the_range_of_float16_is_computed_in_float32(
    tmp_path: Path, make_network: Callable[..., XCiT], stats: RgbStats, settings: Settings
) -> None:
    network, path = make_network(seed=5), tmp_path / "loud.pt"
    pixels = _pixels(CHUNK + 3, seed=68)
    # Patch tokens of a million; every norm takes that out again.
    with torch.no_grad():
        dict(network.named_parameters())["patch_embed.proj.3.1.weight"].mul_(1e6)
    save_checkpoint(path, network, [f"class {number}" for number in range(7)], (64, 96), stats)
    found, expected = (
        load_model(path, device="cuda", runtime=name, settings=settings).infer_pixels(pixels).embeddings
        for name in ("cuda-fp16", "torch")
    )
    assert np.isfinite(expected).all()
    assert np.array_equal(found, expected)


def test_auto_measures_once_and_remembers(
    weights_file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    real: Callable[..., Any] = GpuLoader.measure

    def counted(self: GpuLoader, images: int = 256, runs: int = 3) -> Any:
        measured.append(images)
        return real(self, images, runs)

    monkeypatch.setattr(GpuLoader, "measure", counted)
    models = [load_model(weights_file, device="auto", runtime="auto", settings=settings) for _ in range(2)]
    assert len(measured) == 1
    rates = read_rates(export_folder(settings, models[0].sha256), gpu_name())
    assert rates is not None
    assert [rate.runtime for rate in rates] == ["torch", "cuda-fp16"]
    assert [model.runtime for model in models] == 2 * [fastest(rates)]
    # What was measured with a GPU says nothing about the processor.
    assert read_rates(export_folder(settings, models[0].sha256)) is None
    # Memory that is taken by now: the exact way, which asks for less.
    monkeypatch.setattr(
        "birdsearch.model.runtimes.cuda_loader.CudaEngine",
        lambda *_: (_ for _ in ()).throw(BirdsearchError("full")),
    )
    assert load_model(weights_file, device="cuda", runtime="auto", settings=settings).runtime == "torch"
    with pytest.raises(BirdsearchError, match="full"):
        load_model(weights_file, device="cuda", runtime="cuda-fp16", settings=settings)


def test_a_gpu_that_computes_something_else_is_refused(
    weights_file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "birdsearch.model.runtimes.cuda.HalfNetwork.__call__",
        lambda _self, pixels: pixels[:, :128, 0, 0].float().repeat(1, 2)[:, :128],
    )
    with pytest.raises(BirdsearchError, match=r"'cuda-fp16' computes something else than torch.*cosine"):
        load_model(weights_file, device="cuda", runtime="cuda-fp16", settings=settings)
    assert load_model(weights_file, device="cuda", runtime="auto", settings=settings).runtime == "torch"


def test_every_runtime_of_the_gpu_is_measured(weights_file: Path, settings: Settings) -> None:
    rates = measure_runtimes(weights_file, device="cuda", settings=settings, images=2 * CHUNK, runs=2)
    assert [rate.runtime for rate in rates] == ["torch", "cuda-fp16"]
    assert all(rate.is_faithful and 0 < rate.slowest <= rate.fastest for rate in rates)


def test_feature_maps_come_from_torch(half: Model, weights_file: Path) -> None:
    photo = Image.fromarray(_pixels(1, seed=69)[0])
    found, expected = (model.detection_features([photo]) for model in (half, load_model(weights_file)))
    for stage, maps in expected.items():
        np.testing.assert_allclose(found[stage], maps, rtol=0, atol=1e-3)


def test_a_full_gpu_says_so(weights_file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("birdsearch.model.runtimes.cuda.HalfNetwork.__call__", full)
    with pytest.raises(BirdsearchError, match="too little free memory for the runtime 'cuda-fp16'"):
        load_model(weights_file, device="cuda", runtime="cuda-fp16", settings=settings)

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from birdsearch.errors import BirdsearchError, InvalidInputError
from birdsearch.model import Model, load_model
from birdsearch.model.inference import measure_runtimes
from birdsearch.model.runtimes.engines import CHUNK, installed_runtimes, open_engine
from birdsearch.model.runtimes.exports import check_pictures, export_folder, read_export
from birdsearch.model.runtimes.loader import EngineLoader
from birdsearch.model.runtimes.rates import Rate, fastest, least_cosine, read_rates, write_rates
from birdsearch.model.runtimes.table import RUNTIMES
from birdsearch.settings import Settings

OTHERS = tuple(name for name in installed_runtimes() if name != "torch")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "catalog", tmp_path / "cache", None)


@pytest.fixture(scope="module")
def reference(weights_file: Path) -> Model:
    return load_model(weights_file, runtime="torch")


@pytest.fixture(scope="module", params=OTHERS)
def other(
    request: pytest.FixtureRequest, weights_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Model:
    cache = tmp_path_factory.mktemp("cache")
    try:
        return load_model(weights_file, runtime=request.param, settings=Settings(cache, cache, None))
    except InvalidInputError as error:
        pytest.skip(str(error))


def _pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 96, 3), dtype=np.uint8)


def test_the_runtimes_of_the_extras_are_here() -> None:
    assert {"torch", "onnxruntime", "openvino"} <= set(installed_runtimes())


def test_every_runtime_computes_what_torch_does(other: Model, reference: Model) -> None:
    pixels = check_pictures((64, 96), 9)
    found, expected = other.infer_pixels(pixels), reference.infer_pixels(pixels)
    assert (found.embeddings.shape, found.logits.shape) == ((9, 128), (9, 7))
    assert found.embeddings.dtype == found.logits.dtype == np.float32
    assert least_cosine(found.embeddings, expected.embeddings) >= RUNTIMES[other.runtime].min_cosine
    if RUNTIMES[other.runtime].precision == "float32":
        np.testing.assert_allclose(found.embeddings, expected.embeddings, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.logits, expected.logits, rtol=0, atol=1e-4)


def test_an_embedding_does_not_depend_on_its_batch_to_the_last_bit(other: Model) -> None:
    pixels = _pixels(2 * CHUNK + 1, seed=71)
    whole = other.infer_pixels(pixels).embeddings
    for size in (1, 2, CHUNK, CHUNK + 1):
        for start in range(0, len(pixels) - size + 1, 3):
            some = other.infer_pixels(pixels[start : start + size]).embeddings
            assert np.array_equal(some, whole[start : start + size]), (size, start)


def test_no_photos_give_empty_arrays_with_every_runtime(other: Model) -> None:
    out = other.infer_pixels(np.empty((0, 64, 96, 3), np.uint8))
    assert (out.embeddings.shape, out.logits.shape) == ((0, 128), (0, 7))


def test_threads_share_an_engine(other: Model) -> None:
    batches = [_pixels(CHUNK + 2, seed=80 + number) for number in range(6)]
    expected = [other.infer_pixels(batch).embeddings for batch in batches]
    found: dict[int, list[np.ndarray]] = {number: [] for number in range(6)}

    def work(number: int) -> None:
        for _ in range(4):
            found[number].append(other.infer_pixels(batches[number]).embeddings)

    threads = [threading.Thread(target=work, args=(number,)) for number in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, results in found.items():
        assert len(results) == 4
        assert all(np.array_equal(result, expected[number]) for result in results)


def test_feature_maps_come_from_torch_whatever_the_runtime(other: Model, reference: Model) -> None:
    from PIL import Image

    photo = Image.fromarray(_pixels(1, seed=72)[0])
    found, expected = other.detection_features([photo]), reference.detection_features([photo])
    assert all(np.array_equal(found[stage], expected[stage]) for stage in expected)


def test_a_model_says_the_same_of_itself_from_an_export(other: Model, reference: Model) -> None:
    for name in ("name", "network", "path", "sha256", "classes", "stats", "input_size", "preprocessing"):
        assert getattr(other, name) == getattr(reference, name), name
    assert (other.parameters, other.embedding_size) == (reference.parameters, reference.embedding_size)
    assert np.array_equal(other.head_weight, reference.head_weight)
    assert np.array_equal(other.head_bias, reference.head_bias)


def test_an_exported_network_is_run_without_torch(weights_file: Path, settings: Settings) -> None:
    load_model(weights_file, runtime="onnxruntime", settings=settings)
    code = (
        "import sys, numpy as np; from pathlib import Path; from birdsearch.settings import Settings;"
        "from birdsearch.model import load_model; weights, cache, runtime = sys.argv[1:];"
        "settings = Settings(Path(cache), Path(cache), None);"
        "model = load_model(weights, runtime=runtime, device='auto', settings=settings);"
        "out = model.infer_pixels(np.zeros((3, 64, 96, 3), np.uint8)); assert out.logits.shape == (3, 7);"
        "assert 'torch' not in sys.modules and 'onnx' not in sys.modules"
    )
    for runtime in ("onnxruntime", "openvino"):
        subprocess.run(
            [sys.executable, "-c", code, str(weights_file), str(settings.cache), runtime], check=True
        )


@pytest.mark.parametrize("name", ["facts.json", "graph.onnx", "arrays.npz"])
@pytest.mark.parametrize("harm", ["truncated", "flipped", "gone"])
def test_a_damaged_export_is_made_again(name: str, harm: str, weights_file: Path, settings: Settings) -> None:
    model = load_model(weights_file, runtime="onnxruntime", settings=settings)
    path = export_folder(settings, model.sha256) / name
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        # The facts hold hashes, the others are hashed.
        place = content.index(b'"sha256": ["') + 14 if name == "facts.json" else len(content) // 2
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert read_export(settings, model.sha256) is None
    again = load_model(weights_file, runtime="onnxruntime", settings=settings)
    pixels = _pixels(3, seed=73)
    assert np.array_equal(again.infer_pixels(pixels).embeddings, model.infer_pixels(pixels).embeddings)
    assert read_export(settings, model.sha256) is not None
    assert path.read_bytes() == content or name == "arrays.npz"


def test_every_flipped_byte_of_the_facts_is_noticed(weights_file: Path, settings: Settings) -> None:
    model = load_model(weights_file, runtime="onnxruntime", settings=settings)
    path = export_folder(settings, model.sha256) / "facts.json"
    content = path.read_bytes()
    accepted = []
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        if read_export(settings, model.sha256) is not None:
            accepted.append(place)
    # White space between values says nothing, and none of it can become a value by one bit.
    assert all(content[place : place + 1] == b" " for place in accepted), accepted
    path.write_bytes(content)
    assert read_export(settings, model.sha256) is not None


def test_what_was_compiled_is_kept_and_gives_the_same(weights_file: Path, settings: Settings) -> None:
    first = load_model(weights_file, runtime="openvino", settings=settings)
    export = read_export(settings, first.sha256)
    assert export is not None
    [blob] = export_folder(settings, first.sha256).glob("openvino-*.blob")
    engine = open_engine("openvino", export.graph, export.folder)
    assert engine.is_proven
    pixels = _pixels(5, seed=75)
    expected = first.infer_pixels(pixels).embeddings
    assert np.array_equal(engine.embed(pixels), expected)
    whole = blob.read_bytes()
    for harmed in (whole[:-1], whole[: len(whole) // 2], whole[:40] + b"?" + whole[41:], b""):
        blob.write_bytes(harmed)
        assert not open_engine("openvino", export.graph, export.folder).is_proven
        again = load_model(weights_file, runtime="openvino", settings=settings)
        assert np.array_equal(again.infer_pixels(pixels).embeddings, expected)
        # Compiled, verified and kept anew.
        assert open_engine("openvino", export.graph, export.folder).is_proven


def test_what_was_compiled_elsewhere_is_not_used(
    weights_file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = load_model(weights_file, runtime="openvino", settings=settings).sha256
    export = read_export(settings, sha256)
    assert export is not None
    monkeypatch.setattr("birdsearch.model.runtimes.machine._processor", lambda: "another")
    assert not open_engine("openvino", export.graph, export.folder).is_proven


def test_a_cache_that_cannot_be_written_is_done_without(weights_file: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    settings = Settings(tmp_path / "catalog", tmp_path / "cache", None)
    model = load_model(weights_file, runtime="onnxruntime", settings=settings)
    assert model.infer_pixels(_pixels(2, seed=74)).embeddings.shape == (2, 128)
    assert load_model(weights_file, runtime="auto", settings=settings).runtime in RUNTIMES


@pytest.fixture
def wrong_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO computes something else, as with a processor's or a library's fault."""
    real: Callable[..., Any] = open_engine

    def opened(name: str, graph: bytes, cache: Path | None) -> Any:
        engine = real(name, graph, cache)
        if name.startswith("openvino"):
            right = engine.embed
            monkeypatch.setattr(engine, "embed", lambda pixels: right(pixels[:, ::-1].copy()) * 1.5)
        return engine

    monkeypatch.setattr("birdsearch.model.runtimes.loader.open_engine", opened)


@pytest.mark.usefixtures("wrong_engine")
def test_a_runtime_that_computes_something_else_is_refused(weights_file: Path, settings: Settings) -> None:
    with pytest.raises(
        BirdsearchError, match=r"'openvino' computes something else than torch.*cosine 0\.\d+"
    ):
        load_model(weights_file, runtime="openvino", settings=settings)
    assert load_model(weights_file, runtime="auto", settings=settings).runtime in ("torch", "onnxruntime")


def test_auto_remembers_what_it_measured(
    weights_file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    real = EngineLoader.measure

    def counted(self: EngineLoader, images: int = 16, runs: int = 3) -> Any:
        measured.append(images)
        return real(self, images, runs)

    monkeypatch.setattr(EngineLoader, "measure", counted)
    first = load_model(weights_file, runtime="auto", settings=settings)
    second = load_model(weights_file, runtime="auto", settings=settings)
    assert len(measured) == 1
    assert first.runtime == second.runtime
    # Another processor, or another version of a library: what was measured says nothing any more.
    monkeypatch.setattr("birdsearch.model.runtimes.machine._processor", lambda: "another")
    load_model(weights_file, runtime="auto", settings=settings)
    assert len(measured) == 2


def test_every_runtime_is_measured_and_the_fastest_faithful_one_chosen(
    weights_file: Path, settings: Settings
) -> None:
    rates = measure_runtimes(weights_file, settings=settings, images=8, runs=2)
    # The processor may lack bfloat16.
    assert [rate.runtime for rate in rates] in (list(installed_runtimes()), list(installed_runtimes())[:-1])
    for rate in rates:
        assert 0 < rate.slowest <= rate.median <= rate.fastest
        assert rate.is_faithful, rate
    assert read_rates(export_folder(settings, load_model(weights_file, settings=settings).sha256)) == rates
    assert load_model(weights_file, runtime="auto", settings=settings).runtime == fastest(rates)


def test_an_unfaithful_runtime_is_never_the_fastest() -> None:
    rates = [Rate("torch", 50, 49, 51, 1.0), Rate("openvino", 200, 190, 210, 0.99)]
    assert fastest(rates) == "torch"
    assert fastest([*rates, Rate("openvino-bf16", 100, 90, 110, 0.9995)]) == "openvino-bf16"


def test_rates_that_cannot_be_read_are_not_there(tmp_path: Path) -> None:
    assert read_rates(None) is None
    assert read_rates(tmp_path) is None
    rates = [Rate("torch", 50, 49, 51, 1.0)]
    write_rates(tmp_path, rates)
    assert read_rates(tmp_path) == rates
    whole = (tmp_path / "rates.json").read_text()
    for text in ("", "{}", whole[:-9], whole.replace("torch", "tensorflow"), whole.replace("median", "mean")):
        (tmp_path / "rates.json").write_text(text)
        assert read_rates(tmp_path) is None, text


def test_a_row_that_is_not_finite_has_the_least_cosine() -> None:
    rows = np.ones((2, 3), np.float32)
    assert least_cosine(rows, rows) == pytest.approx(1.0)
    assert least_cosine(np.array([[1, 1, 1], [1, np.nan, 1]], np.float32), rows) == -1.0
    assert least_cosine(rows[:1], rows) == -1.0


def test_a_runtime_that_is_not_installed_names_what_to_install(
    weights_file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name in ("openvino", "onnxruntime") else real(name),
    )
    assert installed_runtimes() == ("torch",)
    # There is nothing to choose from, so nothing is measured.
    monkeypatch.setattr(EngineLoader, "measure", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'birdsearch\[fast\]'; or use --runtime torch"):
        load_model(weights_file, runtime="openvino", settings=settings)
    assert load_model(weights_file, runtime="auto", settings=settings).runtime == "torch"


def test_without_the_graph_writer_auto_means_torch(
    weights_file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'birdsearch\[fast\]'"):
        load_model(weights_file, runtime="openvino", settings=settings)
    assert load_model(weights_file, runtime="auto", settings=settings).runtime == "torch"


def test_a_processor_without_bfloat16_is_told_so(
    weights_file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birdsearch.model.runtimes.engines._has_bfloat16", lambda _core: False)
    with pytest.raises(InvalidInputError, match="no bfloat16 arithmetic; use 'openvino'"):
        load_model(weights_file, runtime="openvino-bf16", settings=settings)
    measured = measure_runtimes(weights_file, settings=settings, images=4, runs=1)
    assert {rate.runtime for rate in measured} == set(installed_runtimes()) - {"openvino-bf16"}


def test_a_graph_that_is_none_is_refused() -> None:
    for name in ("onnxruntime", "openvino"):
        with pytest.raises(BirdsearchError, match=f"'{name}' could not load the network"):
            open_engine(name, b"no graph", None)

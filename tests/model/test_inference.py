from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from birdsearch.errors import BirdsearchError, InvalidInputError, PhotoError, WeightsError
from birdsearch.model import Inference, Model, load_model
from birdsearch.model.xcit import XCiT
from birdsearch.settings import Settings


@pytest.fixture(scope="module")
def model(weights_file: Path) -> Model:
    return load_model(weights_file)


def _photos(count: int, seed: int) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    photos = []
    for _ in range(count):
        width, height = (int(side) for side in rng.integers(20, 160, 2))
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        photos.append(small.resize((width, height), Image.Resampling.BICUBIC))
    return photos


def test_a_model_says_what_it_is(model: Model, weights_file: Path, classes: tuple[str, ...]) -> None:
    assert (model.name, model.network, model.path) == ("small", "xcit_nano12_p16", weights_file)
    assert model.classes == classes
    assert (model.embedding_size, model.input_size, model.device) == (128, (64, 96), "cpu")
    assert len(model.sha256) == 64
    assert model.preprocessing.startswith("rgb-bicubic-64x96/mean=0.51,0.47,0.4/")
    assert model.head_weight.shape == (7, 128)
    assert model.head_bias.shape == (7,)
    # 128 channels, 12 blocks, 2 class-attention blocks, as the paper counts 3.1 M with 1000 classes.
    assert model.parameters == 3_053_224 - (1000 - 7) * 129


def test_embeddings_and_logits_do_not_depend_on_the_batch(model: Model) -> None:
    photos = _photos(13, seed=50)
    whole = model.infer(photos)
    assert whole.embeddings.shape == (13, 128)
    assert whole.logits.shape == (13, 7)
    for array in (whole.embeddings, whole.logits):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
    # Different photos are told apart, or nothing below would mean much.
    assert np.linalg.norm(whole.embeddings - whole.embeddings[::-1], axis=1).max() > 0.5
    for batch_size in (1, 4, 12, 13, 100):
        again = model.infer(photos, batch_size=batch_size)
        np.testing.assert_allclose(again.embeddings, whole.embeddings, rtol=0, atol=1e-5)
        np.testing.assert_allclose(again.logits, whole.logits, rtol=0, atol=1e-5)
    again = model.infer(photos)
    assert np.array_equal(again.embeddings, whole.embeddings)


def test_the_logits_follow_from_the_embedding_and_the_head(model: Model) -> None:
    out = model.infer(_photos(5, seed=51))
    logits = out.embeddings @ model.head_weight.T + model.head_bias
    np.testing.assert_allclose(logits, out.logits, rtol=0, atol=1e-5)


def test_no_photos_give_empty_arrays(model: Model) -> None:
    for out in (model.infer([]), model.infer_pixels(np.empty((0, 64, 96, 3), dtype=np.uint8))):
        assert out.embeddings.shape == (0, 128)
        assert out.logits.shape == (0, 7)
    maps = model.detection_features([])
    assert {stage: values.shape for stage, values in maps.items()} == {
        f"stage{number}": (0, 128, 4, 6) for number in (1, 2, 3, 4)
    }


def test_feature_maps_are_those_of_the_network(model: Model, make_network: Callable[..., XCiT]) -> None:
    photos = _photos(3, seed=52)
    maps = model.detection_features(photos, batch_size=2)
    assert list(maps) == ["stage1", "stage2", "stage3", "stage4"]
    from birdsearch.model.images.resizing import resize
    from birdsearch.model.preprocess import normalise

    pixels = normalise(np.stack([resize(photo, (64, 96)) for photo in photos]), model.stats)
    expected = make_network().detection_features(torch.from_numpy(pixels))
    for stage, values in maps.items():
        assert values.shape == (3, 128, 4, 6)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[stage].numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("images", ["photo.jpg", Path("photo.jpg"), b"photo.jpg", Image.new("RGB", (4, 4))])
def test_a_single_photo_instead_of_a_list_is_refused(images: Any, model: Model) -> None:
    with pytest.raises(InvalidInputError, match="put a single photo into a list"):
        model.infer(images)
    with pytest.raises(InvalidInputError, match="put a single photo into a list"):
        model.detection_features(images)


def test_wrong_sizes_are_refused(model: Model) -> None:
    with pytest.raises(InvalidInputError, match="batch_size must be at least 1, got 0"):
        model.infer(_photos(1, seed=53), batch_size=0)
    for pixels in (
        np.zeros((2, 64, 64, 3), np.uint8),
        np.zeros((64, 96, 3), np.uint8),
        np.zeros((1, 64, 96, 3)),
    ):
        with pytest.raises(InvalidInputError, match=r"\(B, 64, 96, 3\) uint8"):
            model.infer_pixels(pixels)  # type: ignore[arg-type]


def _saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_a_path_and_an_opened_image_give_the_same(model: Model, tmp_path: Path) -> None:
    colour = _photos(1, seed=54)[0]
    alpha = colour.convert("RGBA")
    alpha.putalpha(colour.convert("L"))
    grey16 = Image.fromarray(np.asarray(colour.convert("L")).astype(np.uint16) * 257)
    paths = [
        _saved(colour, tmp_path / "a.png"),
        _saved(colour, tmp_path / "a.jpg", quality=90),
        _saved(colour.convert("CMYK"), tmp_path / "cmyk.jpg"),
        _saved(colour.convert("L"), tmp_path / "l.png"),
        _saved(colour.convert("P"), tmp_path / "p.png"),
        _saved(colour.convert("1"), tmp_path / "one.png"),
        _saved(alpha, tmp_path / "alpha.png"),
        _saved(alpha, tmp_path / "alpha.webp", lossless=True),
        _saved(grey16, tmp_path / "grey16.png"),
        _saved(grey16, tmp_path / "grey16.tif"),
        _saved(colour.convert("P"), tmp_path / "p.gif"),
    ]
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        paths.append(_saved(colour, tmp_path / f"turned{orientation}.jpg", quality=95, exif=exif))
    by_path = model.infer(paths, batch_size=1)
    for index, path in enumerate(paths):
        with Image.open(path) as image:
            opened = model.infer([image])
        assert np.array_equal(opened.embeddings[0], by_path.embeddings[index]), path.name


def test_every_orientation_of_a_picture_gives_the_same_embedding(model: Model, tmp_path: Path) -> None:
    upright = _photos(1, seed=55)[0]
    turns = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    expected = model.infer([upright]).embeddings[0]
    for orientation, turn in turns.items():
        exif = Image.Exif()
        exif[274] = orientation
        stored = upright if turn is None else upright.transpose(turn)
        path = _saved(stored, tmp_path / f"{orientation}.png", exif=exif)
        with Image.open(path) as image:
            for photo in (path, image):
                assert np.array_equal(model.infer([photo]).embeddings[0], expected), orientation


def test_a_photo_that_cannot_be_read_is_named(model: Model, tmp_path: Path) -> None:
    good = _saved(_photos(1, seed=56)[0], tmp_path / "good.jpg")
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(good.read_bytes()[:-200])
    for path, stage in ((bad, "decode"), (tmp_path / "absent.jpg", "read")):
        with pytest.raises(PhotoError, match=path.name) as caught:
            model.infer([good, path])
        assert caught.value.stage == stage
    with Image.open(io.BytesIO(bad.read_bytes())) as image, pytest.raises(PhotoError):
        model.infer([image])


def test_threads_share_a_model(model: Model) -> None:
    pixels = np.random.default_rng(57).integers(0, 256, (4, 3, 64, 96, 3), dtype=np.uint8)
    expected = [model.infer_pixels(batch).embeddings for batch in pixels]
    results: dict[int, Inference] = {}

    def work(index: int) -> None:
        for _ in range(3):
            results[index] = model.infer_pixels(pixels[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        np.testing.assert_allclose(results[index].embeddings, expected[index], rtol=0, atol=1e-5)


def test_a_gpu_out_of_memory_halves_the_batch_and_goes_on(
    weights_file: Path, make_network: Callable[..., XCiT]
) -> None:
    model, network = load_model(weights_file), make_network()
    pixels = np.random.default_rng(58).integers(0, 256, (11, 64, 96, 3), dtype=np.uint8)
    sizes: list[int] = []

    def small_memory(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return network.embedding(batch)

    engine = model._reference()
    parts = engine.run(small_memory, pixels)
    assert sizes == [11, 5, 2, 2, 2, 2, 2, 1]
    np.testing.assert_allclose(
        torch.cat(parts).numpy(), model.infer_pixels(pixels).embeddings, rtol=0, atol=1e-5
    )

    def no_memory(batch: torch.Tensor) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(BirdsearchError, match="single photo of 64 x 96 pixels; use the device 'cpu'"):
        engine.run(no_memory, pixels)


def test_devices_and_runtimes_that_are_not_there_are_refused(weights_file: Path) -> None:
    with pytest.raises(
        InvalidInputError, match="runtime 'tensorflow' is unknown; use one of auto, torch, onnx"
    ):
        load_model(weights_file, runtime="tensorflow")
    with pytest.raises(InvalidInputError, match=r"device must be .* got 'tpu'"):
        load_model(weights_file, device="tpu")
    if torch.cuda.is_available():
        assert load_model(weights_file, device="auto").device == "cuda"
    else:
        assert load_model(weights_file, device="auto").device == "cpu"
        with pytest.raises(InvalidInputError, match="no GPU"):
            load_model(weights_file, device="cuda")
    with pytest.raises(
        InvalidInputError, match="'cuda-fp16' needs a GPU; on the device 'cpu' use one of torch, onnx"
    ):
        load_model(weights_file, device="cpu", runtime="cuda-fp16")
    with pytest.raises(
        InvalidInputError, match="'openvino' uses no GPU; on the device 'cuda' use one of torch, cuda"
    ):
        load_model(weights_file, device="cuda", runtime="openvino")


def test_the_default_model_is_never_replaced_by_another(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "catalog", tmp_path / "cache", None)
    with pytest.raises(WeightsError, match=r"xcit_nano12_p16_il-common\.pt is not on this machine.*https://"):
        load_model(settings=settings, download=False)


def test_the_light_parts_do_not_load_torch() -> None:
    code = (
        "import sys, birdsearch.model as m; m.VARIANTS, m.WEIGHTS, m.open_photo, m.feature_picture; dir(m);"
        "import birdsearch.model.images.resizing, birdsearch.cli.model;"
        "bad = {'torch', 'torchvision', 'faiss', 'birder'} & set(sys.modules); assert not bad, bad;"
        "m.load_model; assert 'torch' not in sys.modules; m.XCiT; assert 'torch' in sys.modules;"
        "assert all(hasattr(m, name) for name in m.__all__) and not hasattr(m, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.photos
@pytest.mark.skipif(
    not {"BIRDSEARCH_TEST_PHOTOS", "BIRDSEARCH_TEST_WEIGHTS"} <= set(os.environ),
    reason="BIRDSEARCH_TEST_PHOTOS and BIRDSEARCH_TEST_WEIGHTS are not set",
)
def test_real_weights_on_real_photos_give_birders_outputs() -> None:
    birder = pytest.importorskip("birder")
    from birder.common import fs_ops

    weights = Path(os.environ["BIRDSEARCH_TEST_WEIGHTS"]) / "xcit_nano12_p16_eval.pt"
    photos = sorted(Path(os.environ["BIRDSEARCH_TEST_PHOTOS"]).glob("cub/query/*/*.jpg"))[::60]
    assert photos
    theirs, info = fs_ops.load_model(torch.device("cpu"), "xcit_nano12_p16", path=weights, inference=True)
    transform = birder.classification_transform((256, 256), info.rgb_stats)
    batch = []
    for photo in photos:
        with Image.open(photo) as image:
            batch.append(transform(image.convert("RGB")))
    pixels = torch.stack(batch)
    model = load_model(weights)
    out, maps = model.infer(photos), model.detection_features(photos)
    assert out.logits.shape == (len(photos), 371)
    assert model.classes == tuple(sorted(info.class_to_idx, key=lambda name: info.class_to_idx[name]))
    with torch.inference_mode():
        np.testing.assert_allclose(out.embeddings, theirs.embedding(pixels).numpy(), rtol=0, atol=1e-4)
        np.testing.assert_allclose(out.logits, theirs(pixels).numpy(), rtol=0, atol=1e-4)
        for stage, values in theirs.detection_features(pixels).items():
            assert maps[stage].shape == (len(photos), 128, 16, 16)
            np.testing.assert_allclose(maps[stage], values.numpy(), rtol=0, atol=1e-4)
    right = [
        model.classes[row.argmax()] == path.parent.name for row, path in zip(out.logits, photos, strict=True)
    ]
    folders = {path.parent.name for path in photos}
    assert not folders <= set(model.classes) or np.mean(right) > 0.5

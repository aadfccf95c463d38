"""The network and the pipeline on a GPU, and how near they come to what the card multiplies.

Beside the runtimes, as what one would write: the same network eagerly under autocast to float16, in batches of 256.
"With copying" begins and ends with arrays of the processor, as the pipeline does;
"on the card" computes pictures that are there already. The pipeline is `birdsearch index` on made-up JPEGs, as a
whole command, with the GPU and without; a folder with one photo is run too, so that the start-up can be taken off.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from network import CLASSES, GFLOP_AN_IMAGE, STATS
from numpy.typing import NDArray
from PIL import Image
from timing import Spread, interleaved, machine, spread

from birdsearch.model.checkpoint import read_checkpoint, save_checkpoint
from birdsearch.model.config import variant
from birdsearch.model.inference import load_model
from birdsearch.model.preprocess import normalise
from birdsearch.model.runtimes.cuda import CHUNK, CudaEngine
from birdsearch.model.runtimes.engines import installed_runtimes
from birdsearch.model.runtimes.exports import check_pictures
from birdsearch.model.runtimes.rates import least_cosine
from birdsearch.model.runtimes.torch import TorchEngine
from birdsearch.model.xcit import XCiT
from birdsearch.settings import Settings

import torch  # isort: skip  (after the runtime, which sets up its threads)

_IMAGES = 4096
_SIDE = 8192
_AUTOCAST_BATCH = 256
_QUALITY = 90
# (width, height) in pixels and how many: what camera traps and phones send on, and what cameras write.
_PHOTOS = {(1024, 768): 4000, (6000, 4000): 160}


def main(folder: Path, scratch: Path, runs: int = 5, pipeline_runs: int = 3) -> None:
    """Measure where there is a GPU; say so where there is none."""
    if not torch.cuda.is_available():
        print("\ngpu: none here, nothing measured")
        return
    weights = scratch / "network.pt"
    network = XCiT(variant("xcit_nano12_p16"), CLASSES).initialise(0)
    save_checkpoint(weights, network, [f"class {number}" for number in range(CLASSES)], (256, 256), STATS)
    record: dict[str, object] = {"machine": machine(), "gpu": torch.cuda.get_device_name()}
    print(f"\ngpu: {record['gpu']}; {runs} runs in turn; median (min .. max)")
    record["network"] = _network(weights, network, scratch, runs)
    record["pipeline"] = [
        _pipeline(weights, scratch, size, count, pipeline_runs) for size, count in _PHOTOS.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


# -- the network ------------------------------------------------------------------------------------------


def _network(weights: Path, network: XCiT, scratch: Path, runs: int) -> dict[str, object]:
    settings = Settings(scratch / "catalog", scratch / "cache", None)
    products = {
        name: spread([_products(dtype) for _ in range(runs)])
        for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16))
    }
    for name, rate in products.items():
        print(f"  matrix products in {name}: {rate} TFLOP/s ({_SIDE} x {_SIDE})")
    models = {
        name: load_model(weights, device="cuda", runtime=name, settings=settings)
        for name in installed_runtimes("cuda")
    }
    checkpoint = read_checkpoint(weights)
    engine = CudaEngine(TorchEngine(checkpoint, "cuda"), checkpoint.size, checkpoint.stats)
    pixels = np.random.default_rng(0).integers(0, 256, (_IMAGES, 256, 256, 3), dtype=np.uint8)
    network = network.to("cuda")
    some = torch.from_numpy(normalise(pixels[:_AUTOCAST_BATCH], STATS)).cuda()
    work = {"torch": _IMAGES // 8, "cuda-fp16": _IMAGES}
    candidates: dict[str, Callable[[], object]] = {
        f"{name}, with copying": partial(models[name].infer_pixels, pixels[:count])
        for name, count in work.items()
    }
    written = "eager float16 (autocast), on the card"
    seconds = interleaved({**candidates, written: partial(_autocast, network, some)}, runs)
    rates = {
        name: [work.get(name.partition(",")[0], _IMAGES) / one for one in took]
        for name, took in seconds.items()
    }
    rates["cuda-fp16, on the card"] = [_on_the_card(engine) for _ in range(runs)]
    pictures = check_pictures((256, 256), 16)
    expected = load_model(weights, runtime="torch", settings=settings).infer_pixels(pictures).embeddings
    cosines = {
        name: least_cosine(model.infer_pixels(pictures).embeddings, expected)
        for name, model in models.items()
    }
    for name, values in rates.items():
        rate = spread(values)
        share = rate.median * GFLOP_AN_IMAGE / 1e3 / products["bfloat16"].median
        cosine = cosines.get(name.partition(",")[0])
        print(
            f"  {name:38} {rate} images/s; {share:.1%} of the bfloat16 matrix rate"
            + ("" if cosine is None else f"; cosine to the processor's torch {cosine:.7f}")
        )
    one = pixels[:1]
    alone = spread(interleaved({"one": partial(models["cuda-fp16"].infer_pixels, one)}, 50)["one"])
    print(f"  cuda-fp16, a single photo: {1e3 * alone.median:.2f} ms")
    return {
        "products_tflops": {name: rate.median for name, rate in products.items()},
        "images_per_second": rates,
        "cosine": cosines,
        "single_seconds": alone.median,
    }


def _products(dtype: torch.dtype) -> float:
    """TFLOP a second of a matrix product of random numbers."""
    one, other = (torch.randn(_SIDE, _SIDE, device="cuda").to(dtype) for _ in range(2))
    return 2 * _SIDE**3 / _seconds(lambda: one @ other, 10) / 1e12


def _seconds(function: Callable[[], object], times: int) -> float:
    """Seconds a call takes on the GPU."""
    for _ in range(3):
        function()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(times):
        function()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / times


def _autocast(network: XCiT, batch: torch.Tensor) -> None:
    with torch.inference_mode(), torch.autocast("cuda", torch.float16):
        for _ in range(_IMAGES // len(batch)):
            network.embedding(batch)
    torch.cuda.synchronize()


def _on_the_card(engine: CudaEngine) -> float:
    """Images a second of the captured graphs alone, on their own streams."""
    rounds = 64
    for slot in engine.slots:
        slot.replay()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(rounds):
        for slot in engine.slots:
            slot.replay()
    torch.cuda.synchronize()
    return rounds * len(engine.slots) * CHUNK / (time.perf_counter() - started)


# -- the pipeline -----------------------------------------------------------------------------------------


def _pipeline(
    weights: Path, scratch: Path, size: tuple[int, int], count: int, runs: int
) -> dict[str, object]:
    photos = scratch / f"photos-{size[0]}"
    photos.mkdir()
    single = scratch / f"single-{size[0]}"
    single.mkdir()
    with ProcessPoolExecutor() as pool:
        bytes_each = list(pool.map(partial(_write_photo, photos, size), range(count), chunksize=8))
    _write_photo(single, size, count)
    devices = ("cuda", "cpu")
    whole: dict[str, list[float]] = {device: [] for device in devices}
    starting: dict[str, list[float]] = {device: [] for device in devices}
    for device in devices:
        # Measures the runtimes.
        _index(weights, scratch, single, device)
    for _ in range(runs):
        for device in devices:
            starting[device].append(_index(weights, scratch, single, device))
            whole[device].append(_index(weights, scratch, photos, device))
    decoding = statistics.median([_decoding(photos) for _ in range(runs)])
    print(
        f"  birdsearch index, {count} JPEGs of {size[0]} x {size[1]}, {np.median(bytes_each) / 1e6:.2f} MB each, "
        f"{os.cpu_count()} cores; decoding alone {decoding:.0f} photos/s"
    )
    rates: dict[str, Spread] = {}
    for device in devices:
        took = zip(whole[device], starting[device], strict=True)
        rates[device] = spread([(count - 1) / (end - start) for end, start in took])
        print(
            f"    --device {device:5} {rates[device]} photos/s after start-up, "
            f"{spread([count / one for one in whole[device]])} with it; start-up {spread(starting[device])} s; "
            f"{rates[device].median / decoding:.2f} of decoding alone"
        )
    return {
        "size": size,
        "photos": count,
        "decoding_alone": decoding,
        "seconds": whole,
        "start_up_seconds": starting,
    }


def _write_photo(folder: Path, size: tuple[int, int], number: int) -> int:
    """Write a picture of soft patches under noise; return its size in bytes."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16)
    noise = rng.normal(0, 6, (512, 512, 1)).astype(np.int16)
    tiles = (-(-size[1] // 512), -(-size[0] // 512), 1)
    noisy: NDArray[np.int16] = picture + np.tile(noise, tiles)[: size[1], : size[0]]
    path = folder / f"{number:06}.jpg"
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=_QUALITY)
    return path.stat().st_size


def _index(weights: Path, scratch: Path, photos: Path, device: str) -> float:
    """Seconds of `birdsearch index` into a catalog of its own."""
    catalog = scratch / f"catalog-{time.monotonic_ns()}"
    environment = {**os.environ, "BIRDSEARCH_CACHE": str(scratch / "cache")}
    command = [sys.executable, "-m", "birdsearch", "index", str(photos), "--weights", str(weights)]
    command += ["--catalog", str(catalog), "--device", device]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - started


def _decoding(photos: Path) -> float:
    """Photos a second of decoding alone, as many at once as there are cores."""
    paths = sorted(photos.iterdir())
    with ProcessPoolExecutor() as pool:
        pool.submit(_decode, paths[0]).result()
        started = time.perf_counter()
        list(pool.map(_decode, paths, chunksize=8))
        return len(paths) / (time.perf_counter() - started)


def _decode(path: Path) -> int:
    from birdsearch.model.images.photo import load_photo
    from birdsearch.model.images.resizing import resize_loaded
    from birdsearch.model.images.scaling import Need

    loaded = load_photo(path.read_bytes(), need=Need((256, 256)))
    return resize_loaded(loaded, (256, 256), exact=False).size[0]

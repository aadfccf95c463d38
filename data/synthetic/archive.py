"""A survey archive as people leave it: camera files, copies, sidecars and broken files, with their truth."""

from __future__ import annotations

import io
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from birdsearch.data.synthetic.itinerary import Frame, plan_frames
from birdsearch.data.synthetic.jpeg import CORRUPTIONS, EDITS, Box, corrupt, edit, encode
from birdsearch.data.synthetic.photo import render_with_box
from birdsearch.data.synthetic.truth import Truth, write_truth
from birdsearch.data.synthetic.world import World
from birdsearch.errors import BirdsearchError, InvalidInputError

__all__ = ["ArchiveSummary", "write_archive"]

_FEWEST = 24
_ALONE_BELOW = 40


@dataclass(frozen=True, slots=True)
class ArchiveSummary:
    """What was written.

    Attributes:
        folder: The archive.
        truth: Its `truth.csv`.
        files: Files by kind (see `birdsearch.data.synthetic.truth.KINDS`).
        species: How many known species are on its frames.
        unseen: How many species that are not among the known ones.
        individuals: How many birds.
        bursts, events, sightings: How many of each.
    """

    folder: Path
    truth: Path
    files: dict[str, int]
    species: int
    unseen: int
    individuals: int
    bursts: int
    events: int
    sightings: int


@dataclass(frozen=True, slots=True)
class _Derived:
    """A file made from a frame: its path, kind, and what is done."""

    path: str
    kind: str
    edit: str = ""


@dataclass(frozen=True, slots=True)
class _Job:
    """Frames of one event, and what is made from each of them."""

    folder: str
    frames: tuple[tuple[Frame, tuple[_Derived, ...]], ...]


def write_archive(
    folder: Path | str,
    *,
    seed: int,
    photos: int = 1000,
    size: int = 1600,
    workers: int | None = None,
    world: World | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ArchiveSummary:
    """Write a synthetic archive with its ground truth.

    Equal arguments give equal bytes, whatever the number of workers (with the same versions of numpy and Pillow).
    `truth.csv` is written last: an archive without it is unfinished.

    Args:
        folder: Where; it may exist but has to be empty.
        seed: What the archive is made from.
        photos: How many frames come from cameras, empty ones among them; at least 24. Copies, sidecars and
            broken files come on top, about one for eight frames.
        size: Longer side of a frame in pixels, 64..8192.
        workers: How many processes; None for as many as there are cores. More than one start fresh
            interpreters: a script that calls this guards its main part with `if __name__ == "__main__"`.
        world: Where the birds come from; `World(seed=0)` by default, whatever `seed` is.
        progress: Called with the number of frames done and of all.

    Returns:
        What was written.

    Raises:
        InvalidInputError: An argument is out of range, or the folder is not empty or cannot be made.
        BirdsearchError: A file could not be written, or a process died.
    """
    target = _checked(Path(folder), seed, photos, size, workers)
    world = World() if world is None else world
    rng = np.random.default_rng([seed, 101])
    frames = plan_frames(world, rng, photos, size)
    jobs = list(_jobs(target, frames, _derive(rng, frames)))
    rows: list[Truth] = []
    try:
        for done in _run(jobs, workers, photos):
            rows += done
            if progress is not None:
                progress(sum(row.kind in ("photo", "empty") for row in rows), photos)
        rows += _write_sidecars(target, rng, frames)
        path = write_truth(target, rows)
    except OSError as error:
        raise BirdsearchError(
            f"the archive in {target} could not be written: {error}; free space or name another folder, "
            "and remove what is there"
        ) from error
    except BrokenProcessPool as error:
        raise BirdsearchError(
            f"a process that renders for {target} died, perhaps for want of memory; remove what is there and "
            "try again with workers=1"
        ) from error
    birds = [frame.individual for frame in frames if frame.individual is not None]
    seen = {bird.species for bird in birds}
    return ArchiveSummary(
        folder=target,
        truth=path,
        files=dict(Counter(row.kind for row in rows)),
        species=sum(each.known for each in seen),
        unseen=sum(not each.known for each in seen),
        individuals=len(set(birds)),
        bursts=len({frame.burst for frame in frames} - {""}),
        events=len({frame.event for frame in frames}),
        sightings=len({frame.sighting for frame in frames} - {""}),
    )


def _checked(folder: Path, seed: int, photos: int, size: int, workers: int | None) -> Path:
    if seed < 0:
        raise InvalidInputError(f"seed is {seed}: it has to be 0 or more")
    if photos < _FEWEST:
        raise InvalidInputError(f"photos is {photos}: fewer than {_FEWEST} cannot show every kind of truth")
    if not 64 <= size <= 8192:
        raise InvalidInputError(f"size is {size}: it has to be 64 to 8192 pixels")
    if workers is not None and workers < 1:
        raise InvalidInputError(f"workers is {workers}: it has to be 1 or more")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"the folder {folder} cannot be made: {error.strerror}") from error
    if any(folder.iterdir()):
        raise InvalidInputError(f"{folder} is not empty: name a new folder, nothing is ever written over")
    return folder


def _derive(rng: np.random.Generator, frames: Sequence[Frame]) -> dict[str, list[_Derived]]:
    """Choose which files are made from which frames, by the frame's path."""
    birds = [frame for frame in frames if frame.individual is not None]
    derived: dict[str, list[_Derived]] = {}
    taken = {frame.path for frame in frames}

    def add(frame: Frame, folder: str, name: str, kind: str, what: str = "") -> None:
        stem, _, ending = name.rpartition(".")
        path, n = f"{folder}/{name}", 1
        while path in taken:
            n += 1
            path = f"{folder}/{stem}-{n}.{ending}"
        taken.add(path)
        derived.setdefault(frame.path, []).append(_Derived(path, kind, what))

    def some(count: int) -> list[Frame]:
        return [birds[int(i)] for i in rng.permutation(len(birds))[: min(count, len(birds))]]

    for i, frame in enumerate(some(max(3, len(frames) * 3 // 100))):
        old = PurePosixPath(frame.path)
        targets = (
            (str(old.parent), f"{old.stem} (1){old.suffix}"),
            ("backup/card 2", old.name),
            ("Best of", f"best-{i:03d}.jpg"),
        )
        add(frame, *targets[i % 3], kind="copy")
    names = list(EDITS)
    for i, frame in enumerate(some(max(len(names), len(frames) * 5 // 100))):
        what = names[i % len(names)]
        stem = PurePosixPath(frame.path).stem
        add(
            frame,
            ("exports/web", "Best of", "exports/shared")[i % 3],
            f"{stem}_{what}.jpg",
            "near-copy",
            what,
        )
    for frame in some(max(2, len(frames) // 50)):
        old = PurePosixPath(frame.path)
        add(frame, f"{old.parent}/.thumbnails", old.name, "thumbnail")
    for i, frame in enumerate(some(max(len(CORRUPTIONS), len(frames) // 120))):
        what = CORRUPTIONS[i % len(CORRUPTIONS)]
        old = PurePosixPath(frame.path)
        add(frame, str(old.parent), f"{old.stem}_{'rescued' if i % 2 else 'part'}.jpg", "corrupt", what)
    return derived


def _jobs(folder: Path, frames: Sequence[Frame], derived: dict[str, list[_Derived]]) -> Iterator[_Job]:
    group: list[Frame] = []
    for frame in [*frames, None]:
        if group and (frame is None or frame.event != group[0].event):
            yield _Job(str(folder), tuple((each, tuple(derived.get(each.path, ()))) for each in group))
            group = []
        if frame is not None:
            group.append(frame)


def _run(jobs: Sequence[_Job], workers: int | None, photos: int) -> Iterator[list[Truth]]:
    count = min(len(jobs), workers if workers is not None else (os.cpu_count() or 1))
    if count <= 1 or (workers is None and photos < _ALONE_BELOW):
        yield from map(_write_job, jobs)
        return
    # A fresh interpreter for each worker: a forked one may inherit locks of threads that it does not have.
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_write_job, jobs, chunksize=2)


def _write_job(job: _Job) -> list[Truth]:
    rows: list[Truth] = []
    root = Path(job.folder)
    for frame, derived in job.frames:
        rendered = render_with_box(frame.individual, frame.photo, frame.size)
        original = encode(rendered.image, frame.shot)
        row = _truth(frame, rendered.box)
        rows.append(row)
        _write(root, frame.path, original, frame)
        for each in derived:
            content, fields = _make(each, original, frame, rendered.box)
            _write(root, each.path, content, frame)
            rows.append(
                replace(row, path=each.path, kind=each.kind, copy_of=frame.path, edit=each.edit, **fields)
            )
    return rows


def _make(each: _Derived, original: bytes, frame: Frame, box: Box | None) -> tuple[bytes, dict[str, str]]:
    """Return the bytes of a derived file, and the truth that differs from its frame's."""
    if each.kind == "copy":
        return original, {}
    if each.kind == "near-copy":
        content, moved = edit(each.edit, original, frame.shot, box)
        kept = EDITS[each.edit][2]
        gps = "1" if kept and frame.shot.position is not None else "0"
        return content, {"exif": str(int(kept)), "gps": gps, "orientation": "1", "box": _box(moved)}
    if each.kind == "thumbnail":
        with Image.open(io.BytesIO(original)) as opened:
            small = ImageOps.exif_transpose(opened)
        small.thumbnail((160, 160))
        buffer = io.BytesIO()
        Image.frombytes("RGB", small.size, small.tobytes()).save(buffer, "JPEG", quality=75)
        return buffer.getvalue(), {"exif": "0", "gps": "0", "orientation": "1"}
    return corrupt(each.edit, original), {}


def _write(root: Path, path: str, content: bytes, frame: Frame) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    # Whoever sorts by the file's time finds the day of the visit, on every rerun.
    at = frame.shot.captured_at.timestamp()
    os.utime(target, (at, at))


def _truth(frame: Frame, box: Box | None) -> Truth:
    row = Truth(
        path=frame.path,
        kind="empty" if frame.individual is None else "photo",
        burst=frame.burst,
        event=frame.event,
        sighting=frame.sighting,
        site=frame.site,
        camera=frame.camera,
        captured_at=frame.shot.captured_at.isoformat(timespec="milliseconds"),
        latitude=f"{frame.position[0]:.6f}",
        longitude=f"{frame.position[1]:.6f}",
        exif="1",
        gps=str(int(frame.shot.position is not None)),
        orientation=str(frame.shot.orientation),
        box=_box(box),
        background=frame.photo.background,
    )
    if frame.individual is None:
        return row
    species = frame.individual.species
    return replace(
        row,
        species=species.name,
        common_name=species.common_name,
        genus=species.genus,
        family=species.family,
        order=species.order,
        individual=frame.individual.name,
        known=str(int(species.known)),
        pose=frame.photo.pose.action,
    )


def _box(box: Box | None) -> str:
    return "" if box is None else " ".join(f"{value:.4f}" for value in box)


def _write_sidecars(root: Path, rng: np.random.Generator, frames: Sequence[Frame]) -> list[Truth]:
    """Write what lies beside photos in every archive: settings of editors, notes, caches of file managers."""
    contents: dict[str, bytes] = {}
    for i in rng.permutation(len(frames))[: max(2, len(frames) // 25)]:
        path = PurePosixPath(frames[int(i)].path)
        contents[str(path.with_suffix(".xmp"))] = _XMP
    folders = sorted({str(PurePosixPath(frame.path).parent) for frame in frames})
    for i, folder in enumerate(folders):
        if i % 3 == 0:
            contents[f"{folder}/notes.txt"] = b"Wind light, visibility good. Left before noon.\n"
        if i % 4 == 1:
            contents[f"{folder}/Thumbs.db"] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
        if i % 5 == 2:
            contents[f"{folder}/.DS_Store"] = b"\x00\x00\x00\x01Bud1" + bytes(56)
    for name, content in contents.items():
        (root / name).write_bytes(content)
    return [Truth(path=name, kind="sidecar", edit=PurePosixPath(name).name) for name in contents]


_XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="3"/></rdf:RDF></x:xmpmeta>
"""

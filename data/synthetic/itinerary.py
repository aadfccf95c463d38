"""Who was where, when, and who photographed it: the story that an archive's files follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

import numpy as np

from birdsearch.data.synthetic.jpeg import Shot
from birdsearch.data.synthetic.names import NameMaker
from birdsearch.data.synthetic.photo import Photo, next_frame, random_photo
from birdsearch.data.synthetic.scenes import BACKGROUNDS
from birdsearch.data.synthetic.world import Individual, World

__all__ = ["Camera", "Frame", "Site", "make_cameras", "make_sites", "plan_frames"]

_FIRST_DAY = datetime(2024, 3, 4)

# What a site is called after, and the two backgrounds that are seen there most.
_HABITATS = (
    ("Fen", "reeds", "water"),
    ("Wood", "foliage", "bark"),
    ("Shore", "water", "sand"),
    ("Heath", "grass", "sky"),
    ("Marsh", "grass", "water"),
    ("Hollow", "bark", "foliage"),
)


@dataclass(frozen=True, slots=True)
class Site:
    """A place that is visited.

    Attributes:
        name: What people call it.
        position: Latitude and longitude in degrees.
        offset: Hours from UTC.
        mix: How often each of `BACKGROUNDS` is seen there; sums to 1.
        survey: Whether cameras stand there by themselves.
    """

    name: str
    position: tuple[float, float]
    offset: int
    mix: tuple[float, ...]
    survey: bool


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera: what it writes into its files and how it names them."""

    name: str
    make: str
    model: str
    serial: str
    lens: str
    digits: int
    gps: bool
    pattern: str
    trap: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it leaves a camera, and the truth about it.

    Attributes:
        path: Where it is written, relative to the archive.
        individual: Who is on it; None for an empty frame.
        photo: How it looks.
        size: Width and height of the upright picture.
        shot: What the camera writes.
        site, camera, burst, event, sighting: As in `birdsearch.data.synthetic.truth.Truth`.
        position: Where the camera was, also if it does not write it.
    """

    path: str
    individual: Individual | None
    photo: Photo
    size: tuple[int, int]
    shot: Shot
    site: str
    camera: str
    burst: str
    event: str
    sighting: str
    position: tuple[float, float]


def make_sites(rng: np.random.Generator) -> list[Site]:
    """Six sites far from each other; the last two are surveyed by cameras that stand there."""
    names = NameMaker(rng)
    sites = []
    for i, (kind, *mostly) in enumerate(_HABITATS):
        shares = rng.dirichlet(np.full(len(BACKGROUNDS), 2.0)) * 0.4
        for background in mostly:
            shares[BACKGROUNDS.index(background)] += 0.3
        mix = tuple((shares / shares.sum()).tolist())
        latitude, longitude = 52.0 + 1.7 * i + rng.uniform(0, 0.8), 8.0 + 2.3 * i + rng.uniform(0, 1.2)
        if i == 5:
            latitude, longitude = -latitude + 16, -longitude - 48
        where = (round(float(latitude), 5), round(float(longitude), 5))
        sites.append(Site(f"{names.place()} {kind}", where, -3 if i == 5 else 2, mix, i >= 4))
    return sites


def make_cameras() -> list[Camera]:
    """Make two cameras in the hand, a phone, and two that stand at a site."""
    return [
        Camera("A", "Norvik", "Norvik D50", "3004127", "Norvik 400mm F5.6", 2, True, "DSC_{n:04d}.JPG"),
        Camera(
            "B", "Halcyon", "Halcyon R6", "021033001842", "HL100-500mm F4.5-7.1", 3, False, "IMG_{n:04d}.JPG"
        ),
        Camera(
            "phone",
            "Orbita",
            "Orbita 9",
            "OB9-7781",
            "Orbita 9 main camera",
            3,
            True,
            "{t:%Y%m%d_%H%M%S}{ms}.jpg",
        ),
        Camera(
            "trap1", "Wildeye", "WE-880", "WE880-0142", "Fixed 6mm", 3, True, "RCNX{n:04d}.JPG", trap=True
        ),
        Camera(
            "trap2", "Wildeye", "WE-880", "WE880-0157", "Fixed 6mm", 3, True, "RCNX{n:04d}.JPG", trap=True
        ),
    ]


def plan_frames(world: World, rng: np.random.Generator, photos: int, size: int) -> list[Frame]:
    """Plan the frames of an archive, in the order in which they were taken.

    Args:
        world: Where the birds come from.
        rng: Where the choices come from; it is advanced.
        photos: How many frames, empty ones among them.
        size: Longer side of a frame in pixels.
    """
    return _Planner(world, rng, photos, size).run()


class _Planner:
    def __init__(self, world: World, rng: np.random.Generator, photos: int, size: int) -> None:
        self._rng, self._photos = rng, photos
        self._size = (size, max(16, round(size / 1.5)))
        self._sites, self._cameras = make_sites(rng), make_cameras()
        self._counters = {camera.name: int(rng.integers(1, 4000)) for camera in self._cameras}
        self._trap_scenes = {
            camera.name: (_HABITATS[where][1], int(rng.integers(2**31)))
            for where, camera in zip((4, 5), self._cameras[3:], strict=True)
        }
        self._flocks = self._settle(world)
        self._held_out = [bird for flock in self._flocks for bird in flock if not bird.species.known]
        self._frames: list[Frame] = []
        self._bursts = self._events = self._sightings = self._in_hand = 0

    def _settle(self, world: World) -> list[list[Individual]]:
        """Choose which individuals live at each site; some live at two."""
        rng = self._rng
        known = min(len(world.known), max(8, self._photos // 12))
        unseen = min(len(world.unseen), max(2, self._photos // 110))
        chosen = [world.known[int(i)] for i in rng.permutation(len(world.known))[:known]]
        chosen += [world.unseen[int(i)] for i in rng.permutation(len(world.unseen))[:unseen]]
        flocks: list[list[Individual]] = [[] for _ in self._sites]
        for species in chosen:
            for number in range(int(rng.integers(1, 4))):
                bird = world.individual(species, number)
                homes = rng.permutation(len(flocks))[: 2 if rng.random() < 0.4 else 1]
                for home in homes:
                    flocks[int(home)].append(bird)
        everyone = [bird for flock in flocks for bird in flock]
        for flock in flocks:
            if not flock:
                flock.append(everyone[int(rng.integers(len(everyone)))])
        return flocks

    def run(self) -> list[Frame]:
        rng = self._rng
        visits = max(4, self._photos // 24)
        days = np.sort(rng.integers(0, 170, visits))
        order = [4, *(int(i) for i in rng.permutation(4)), 5]
        quota = np.diff(np.linspace(0, self._photos, visits + 1).round().astype(int))
        for visit, (day, frames) in enumerate(zip(days.tolist(), quota.tolist(), strict=True)):
            # Days of two visits may be equal: their hours, sites and cameras then differ.
            self._visit(order[visit % len(order)], visit, _FIRST_DAY + timedelta(days=int(day)), int(frames))
        return self._frames

    def _visit(self, where: int, visit: int, day: datetime, frames: int) -> None:
        rng, site = self._rng, self._sites[where]
        # The cameras that stand somewhere are the fourth and fifth, at the fifth and sixth site.
        cameras = [self._cameras[where - 1]] if site.survey else self._cameras[:3]
        flock = [self._flocks[where][int(i)] for i in rng.permutation(len(self._flocks[where]))]
        if visit == 1 and self._held_out:
            flock.insert(0, self._held_out[0])
        if visit == 2 and self._frames[0].individual is not None:
            flock.insert(0, self._frames[0].individual)  # the first bird of all is met again elsewhere
        flock = list(dict.fromkeys(flock))
        zone = timezone(timedelta(hours=site.offset))
        now = day.replace(hour=5 + visit % 3, tzinfo=zone) + timedelta(seconds=int(rng.integers(0, 3600)))
        end = len(self._frames) + frames
        turn = 0
        while len(self._frames) < end:
            left = end - len(self._frames)
            if site.survey and (turn == 1 or (turn > 1 and rng.random() < 0.3)):
                now = self._event(site, cameras[0], None, now, min(left, int(rng.choice([1, 3]))), "")
            else:
                bird = flock[turn % len(flock)]
                # Once everybody has been seen, birds come back after hours: a sighting of its own.
                if turn >= len(flock) and turn % len(flock) == 0:
                    now += timedelta(hours=3)
                now = self._sighting(site, cameras, bird, now, left, turn)
            now += timedelta(seconds=int(rng.integers(300, 1500)))
            turn += 1

    def _sighting(
        self, site: Site, cameras: Sequence[Camera], bird: Individual, now: datetime, left: int, turn: int
    ) -> datetime:
        rng = self._rng
        self._sightings += 1
        name = f"s{self._sightings:04d}"
        end = len(self._frames) + left
        for again in range(1 if turn == 0 else int(rng.choice([1, 1, 2, 3]))):
            left = end - len(self._frames)
            if left <= 0:
                break
            if again:
                now += timedelta(seconds=int(rng.integers(150, 900)))
            camera = cameras[int(rng.choice(len(cameras), p=_shares(len(cameras))))]
            burst = (turn == 0 and again == 0) or rng.random() < 0.4
            longest = int(np.clip(self._photos // 8, 3, 8))
            count = int(rng.integers(3, longest + 1)) if burst else int(rng.integers(1, 3))
            now = self._event(site, camera, bird, now, min(left, count), name)
        return now

    def _event(
        self,
        site: Site,
        camera: Camera,
        bird: Individual | None,
        now: datetime,
        count: int,
        sighting: str,
    ) -> datetime:
        """Frames of one camera, one after the other; three or more are a burst."""
        rng = self._rng
        self._events += 1
        burst = count >= 3
        self._bursts += burst
        background = BACKGROUNDS[int(rng.choice(len(BACKGROUNDS), p=site.mix))]
        species = self._flocks[0][0].species if bird is None else bird.species
        photo = random_photo(
            rng, species, background=self._trap_scenes[camera.name][0] if camera.trap else background
        )
        if camera.trap:
            photo = replace(photo, scene_seed=self._trap_scenes[camera.name][1], backdrop_blur=0.2)
        # The second and third event in the hand are upright, turned either way: every archive has both.
        self._in_hand += not camera.trap
        portrait = not camera.trap and (self._in_hand in (2, 3) or rng.random() < 0.2)
        orientation = (8 if self._in_hand % 2 else 6) if portrait else 1
        spread = 0.0 if camera.trap else 0.002
        iso = int(100 * 2 ** min(6, photo.noise // 1.5))
        position = (
            round(site.position[0] + float(rng.normal(0, 1)) * spread, 6),
            round(site.position[1] + float(rng.normal(0, 1)) * spread, 6),
        )
        for step in range(count):
            if step:
                photo = next_frame(rng, photo)
                gap = float(rng.uniform(0.09, 0.4)) if burst else float(rng.uniform(4, 40))
                now += timedelta(milliseconds=round(1000 * gap))
            coarse = 10 ** (6 - camera.digits)
            at = now.replace(microsecond=now.microsecond // coarse * coarse)
            shot = Shot(
                camera.make, camera.model, camera.serial, camera.lens, at, camera.digits,
                position if camera.gps else None, orientation, iso, photo.quality,
            )  # fmt: skip
            w, h = self._size
            self._frames.append(
                Frame(
                    path=self._name(site, camera, at), individual=bird, photo=photo,
                    size=(w, h) if orientation == 1 else (h, w), shot=shot, site=site.name, camera=camera.name,
                    burst=f"b{self._bursts:04d}" if burst else "", event=f"e{self._events:04d}", sighting=sighting,
                    position=position,
                )
            )  # fmt: skip
        return now

    def _name(self, site: Site, camera: Camera, at: datetime) -> str:
        number = self._counters[camera.name] = self._counters[camera.name] % 9999 + 1
        file = camera.pattern.format(n=number, t=at, ms=f"{at.microsecond // 1000:03d}")
        if camera.trap:
            return f"survey/{site.name.replace(' ', '-').lower()}/{camera.name}/{at:%Y-%m-%d}/{file}"
        return f"{at:%Y}/{at:%Y-%m-%d} {site.name}/{'phone/' if camera.name == 'phone' else ''}{file}"


def _shares(cameras: int) -> list[float]:
    return [1.0] if cameras == 1 else [0.45, 0.35, 0.2]

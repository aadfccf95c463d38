"""A photo: one bird, or none, in a scene, through a camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from birdsearch.data.synthetic.birds import Light, bird_shape, draw_bird
from birdsearch.data.synthetic.scenes import BACKGROUNDS, Scenery, add_grain, paint_backdrop
from birdsearch.data.synthetic.skeleton import Pose
from birdsearch.data.synthetic.supports import add_foreground, add_reflection, add_shadow, draw_support
from birdsearch.data.synthetic.world import Individual, Species
from birdsearch.errors import InvalidInputError

__all__ = ["Photo", "Rendered", "next_frame", "random_photo", "render", "render_crop", "render_with_box"]

_SMALLEST, _LARGEST = 16, 8192


@dataclass(frozen=True, slots=True)
class Photo:
    """Everything about a photo but who is in it.

    Attributes:
        pose: How the bird holds itself.
        facing_left: Whether it looks to the left.
        light: Where light comes from.
        background: One of `birdsearch.data.synthetic.scenes.BACKGROUNDS`.
        support: What the bird is on, one of `birdsearch.data.synthetic.supports.SUPPORTS`.
        scene_seed: Where the details of the scene come from.
        backdrop_blur: How far out of focus the background is, 0..1.
        fill: Part of the frame, in its tighter direction, that the bird's box takes, 0..1.
        x, y: Middle of the bird's box, as parts of the frame.
        exposure: Stops over (above 0) or under.
        occlusion: How much stands before the bird, 0..1.
        defocus: Blur of the whole picture, as a part of its longer side.
        motion: Blur along the way of a moving bird, as a part of the longer side.
        noise: Standard deviation of the sensor's noise in 8-bit levels.
        noise_seed: Which noise.
        quality: JPEG quality, 1..95.
    """

    pose: Pose
    facing_left: bool
    light: Light
    background: str
    support: str
    scene_seed: int
    backdrop_blur: float
    fill: float
    x: float
    y: float
    exposure: float
    occlusion: float
    defocus: float
    motion: float
    noise: float
    noise_seed: int
    quality: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A picture and where its bird is.

    Attributes:
        image: RGB picture.
        box: Left, top, width and height of the bird as parts of the picture, clipped to it; None without a bird.
    """

    image: Image.Image
    box: tuple[float, float, float, float] | None


def random_photo(rng: np.random.Generator, species: Species, *, background: str | None = None) -> Photo:
    """Draw at random everything about a photo but the bird, as photos come off a card.

    The background does not depend on the species; what the bird does there does (swimmers swim).

    Args:
        rng: Where the choices come from; it is advanced.
        species: What will be in it.
        background: One of `BACKGROUNDS` instead of a random one.

    Raises:
        InvalidInputError: There is no such background.
    """
    drawn = BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))]
    background = drawn if background is None else background
    if background not in BACKGROUNDS:
        raise InvalidInputError(f"background {background!r} is none of {', '.join(BACKGROUNDS)}")
    action, support = _behaviour(rng, species, background)
    pose = Pose(
        action=action,
        tilt=float(rng.normal(0, 5)),
        neck=float(rng.normal(0, 7)),
        pitch=float(rng.normal(0, 9)),
        tail=float(rng.normal(0, 9)),
        reach=float(np.clip(rng.normal(1, 0.12), 0.7, 1.35)),
        stride=float(rng.uniform(-0.9, 1.1)),
        flap=float(rng.choice([-1, 1]) * rng.uniform(0.35, 1.0)),
    )
    light = Light(
        side=float(rng.uniform(-0.95, 0.95)),
        height=float(rng.uniform(0.3, 1.0)),
        warmth=float(np.clip(rng.normal(0.15, 0.5), -1, 1)),
        contrast=float(rng.uniform(0.15, 0.95)),
    )
    soft = float(rng.random())
    return Photo(
        pose=pose,
        facing_left=bool(rng.random() < 0.5),
        light=light,
        background=background,
        support=support,
        scene_seed=int(rng.integers(2**31)),
        backdrop_blur=float(rng.uniform(0.15, 1.0)),
        fill=float(rng.uniform(0.38, 0.82)),
        x=float(np.clip(rng.normal(0.5, 0.09), 0.3, 0.7)),
        y=float(np.clip(rng.normal(0.5, 0.06), 0.38, 0.62)),
        exposure=float(np.clip(rng.normal(0, 0.28), -0.9, 0.7)),
        occlusion=float(rng.uniform(0.1, 1.0)) if rng.random() < 0.3 else 0.0,
        defocus=0.0 if soft < 0.8 else float(rng.uniform(0.0004, 0.0022)),
        motion=0.0 if soft > 0.1 else float(rng.uniform(0.001, 0.004)),
        noise=float(rng.gamma(2.0, 1.6)),
        noise_seed=int(rng.integers(2**31)),
        quality=int(rng.integers(78, 95)),
    )


def _behaviour(rng: np.random.Generator, species: Species, background: str) -> tuple[str, str]:
    plan, roll = species.plan, float(rng.random())
    if background == "sky":
        return ("fly", "none") if roll < 0.5 else ("perch", "branch")
    if background == "water":
        if plan.swims and roll < 0.8:
            return "swim", "water"
        if plan.leg > 0.35 and roll < 0.8:
            return "stand", "shallows"
        return ("fly", "none") if roll > 0.92 else ("perch", "rock" if roll < 0.5 else "post")
    if background == "reeds":
        return (
            ("perch", "stem")
            if plan.size < 30 and plan.leg < 0.4
            else ("stand", "rock" if roll < 0.5 else "post")
        )
    if background == "bark":
        return ("cling", "trunk") if plan.clings and roll < 0.85 else ("perch", "branch")
    if background == "foliage":
        return "perch", "branch"
    if roll < 0.12 or plan.frontal or plan.clings:
        return "perch", "post" if roll < 0.5 else "rock"
    return "stand", "rock" if roll < 0.3 else "ground"


def next_frame(rng: np.random.Generator, photo: Photo) -> Photo:
    """Return the next frame of a burst: the same scene and light, the bird and the camera slightly moved."""
    pose = photo.pose
    moved = replace(
        pose,
        tilt=pose.tilt + float(rng.normal(0, 1.2)),
        neck=pose.neck + float(rng.normal(0, 2.2)),
        pitch=pose.pitch + float(rng.normal(0, 3.5)),
        tail=pose.tail + float(rng.normal(0, 2)),
        flap=float(np.clip(pose.flap + rng.normal(0, 0.25), -1, 1)) if pose.action == "fly" else pose.flap,
    )
    return replace(
        photo,
        pose=moved,
        x=float(np.clip(photo.x + rng.normal(0, 0.006), 0.28, 0.72)),
        y=float(np.clip(photo.y + rng.normal(0, 0.004), 0.36, 0.64)),
        noise_seed=int(rng.integers(2**31)),
    )


def render(individual: Individual | None, photo: Photo, size: tuple[int, int] = (1600, 1067)) -> Image.Image:
    """Render a photo.

    Args:
        individual: Who is in it; None for an empty frame.
        photo: Everything else.
        size: Width and height in pixels, 16..8192 each.

    Returns:
        RGB picture. JPEG quality is not applied: it is the file's matter.

    Raises:
        InvalidInputError: The size is out of range.
    """
    return render_with_box(individual, photo, size).image


def render_crop(individual: Individual, photo: Photo, size: int = 160) -> Image.Image:
    """Render a square that frames the bird as a detector's crop would: the bird fills 62 to 95 percent of it.

    Args:
        individual: Who is in it.
        photo: Everything else; `fill`, `x` and `y` say how tightly and how well centred the crop is.
        size: Width and height in pixels.

    Raises:
        InvalidInputError: The size is out of range.
    """
    tight = 0.62 + 0.33 * (photo.fill - 0.38) / 0.44
    near = replace(
        photo,
        fill=float(np.clip(tight, 0.62, 0.95)),
        x=0.5 + 0.35 * (photo.x - 0.5),
        y=0.5 + 0.35 * (photo.y - 0.5),
        defocus=2.2 * photo.defocus,
        motion=2.2 * photo.motion,
    )
    return render_with_box(individual, near, (size, size)).image


def render_with_box(
    individual: Individual | None, photo: Photo, size: tuple[int, int] = (1600, 1067)
) -> Rendered:
    """Render like `render`, and return the box of the bird too."""
    width, height = size
    if not (_SMALLEST <= width <= _LARGEST and _SMALLEST <= height <= _LARGEST):
        raise InvalidInputError(f"size is {width}x{height}: both have to be {_SMALLEST} to {_LARGEST} pixels")
    if photo.background not in BACKGROUNDS:
        raise InvalidInputError(f"background {photo.background!r} is none of {', '.join(BACKGROUNDS)}")
    if individual is None:
        horizon = 0.3 + 0.25 * ((photo.scene_seed % 97) / 97)
        scenery = Scenery(photo.background, photo.scene_seed, horizon, 0.5 * photo.backdrop_blur)
        return Rendered(_camera(_textured(paint_backdrop(scenery, size), photo), photo), None)
    return _with_bird(individual, photo, size)


def _with_bird(individual: Individual, photo: Photo, size: tuple[int, int]) -> Rendered:
    width, height = size
    _, bones = bird_shape(individual, photo.pose)
    left, top, right, bottom = bones.box
    unit = photo.fill * min(width / (right - left), height / (bottom - top))
    bird = draw_bird(individual, photo.pose, photo.light, unit, facing_left=photo.facing_left)
    # No more than a twentieth of the frame is cut off the bird at a side.
    half_x, half_y = bird.image.width / 2 / width - 0.05, bird.image.height / 2 / height - 0.03
    x0 = round(float(np.clip(photo.x, min(half_x, 0.5), max(1 - half_x, 0.5))) * width - bird.image.width / 2)
    y0 = round(
        float(np.clip(photo.y, min(half_y, 0.5), max(1 - half_y, 0.5))) * height - bird.image.height / 2
    )
    feet = (x0 + bird.support[0], y0 + bird.support[1])
    grounded = photo.support in ("ground", "shallows", "water", "rock")
    water_row = y0 + (bird.waterline if bird.waterline is not None else int(bird.support[1]))
    base = (water_row if photo.support == "water" else feet[1]) / height
    lift = 0.16 + 0.3 * ((photo.scene_seed % 89) / 89)
    horizon = base - lift if grounded else 0.25 + 0.6 * ((photo.scene_seed % 89) / 89)
    scenery = Scenery(
        photo.background, photo.scene_seed, float(np.clip(horizon, 0.02, 0.9)), photo.backdrop_blur
    )
    image = _textured(paint_backdrop(scenery, size), photo)
    side = photo.light.side
    draw_support(image, photo.support, feet, unit, photo.scene_seed, side)
    if photo.support in ("ground", "rock"):
        # On a rock there is room for less of it.
        reach = unit if photo.support == "ground" else 0.45 * unit
        add_shadow(image, feet, reach, side, 0.3 + 0.4 * photo.light.contrast)
    cut = bird.image
    if photo.support in ("shallows", "water"):
        keep = bird.waterline if bird.waterline is not None else int(bird.support[1] - 0.05 * unit)
        cut = cut.crop((0, 0, cut.width, max(2, min(cut.height, keep))))
        add_reflection(image, cut, x0, y0 + cut.height, photo.scene_seed, unit)
    image.paste(cut, (x0, y0), cut)
    image = add_foreground(image, photo.background, photo.occlusion, photo.scene_seed)
    box = (max(0, x0 + 4), max(0, y0 + 4), min(width, x0 + cut.width - 4), min(height, y0 + cut.height - 4))
    frame = (box[0] / width, box[1] / height, (box[2] - box[0]) / width, (box[3] - box[1]) / height)
    return Rendered(_camera(image, photo), frame)


def _textured(image: Image.Image, photo: Photo) -> Image.Image:
    """Grain of ground and bark, which the coarse backdrop lacks."""
    if photo.background in ("sand", "grass", "bark"):
        return add_grain(image, photo.scene_seed, 7 * (1 - 0.8 * photo.backdrop_blur), coarse=True)
    return image


def _camera(image: Image.Image, photo: Photo) -> Image.Image:
    """Blur, exposure, white balance and noise, in the order in which a camera adds them."""
    longer = max(image.size)
    if photo.motion * longer > 0.3:
        reach = photo.motion * longer
        image = image.filter(ImageFilter.BoxBlur((reach, 0.15 * reach)))
    if photo.defocus * longer > 0.3:
        image = image.filter(ImageFilter.BoxBlur(1.7 * photo.defocus * longer))
    gain, warm = 2.0 ** (photo.exposure / 2.2), photo.light.warmth
    level = np.linspace(0, 1, 256)
    v = level * gain * (1 + 0.055 * warm * np.array([[1.0], [0.15], [-1.0]]))  # (3, 256)
    v = np.where(v < 0.8, v, 0.8 + 0.2 * np.tanh((v - 0.8) / 0.2))
    v += 0.06 * (photo.light.contrast - 0.4) * np.sin(2 * np.pi * (v - 0.5))
    table: list[int] = np.clip(np.rint(255 * v), 0, 255).astype(int).ravel().tolist()
    return add_grain(image.point(table), photo.noise_seed, photo.noise)

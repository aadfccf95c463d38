"""Rendered photos of invented birds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from birdsearch.data.synthetic import (
    Individual,
    World,
    next_frame,
    random_photo,
    render,
    render_crop,
    render_with_box,
    training_sample,
)
from birdsearch.data.synthetic.scenes import BACKGROUNDS
from birdsearch.data.synthetic.skeleton import ACTIONS
from birdsearch.errors import InvalidInputError


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def _bytes(image: Image.Image) -> bytes:
    return image.tobytes()


def test_equal_arguments_give_equal_pixels(world: World) -> None:
    bird = world.individual(3, 1)
    photo = random_photo(np.random.default_rng(4), bird.species)
    assert random_photo(np.random.default_rng(4), bird.species) == photo
    first = _bytes(render(bird, photo, (240, 160)))
    render(world.individual(4, 1), photo, (240, 160))
    assert _bytes(render(World().individual(3, 1), photo, (240, 160))) == first
    assert _bytes(render(world.individual(3, 2), photo, (240, 160))) != first
    assert _bytes(render(world.individual(4, 1), photo, (240, 160))) != first


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_every_background_can_be_rendered_with_and_without_a_bird(world: World, background: str) -> None:
    rng = np.random.default_rng(BACKGROUNDS.index(background))
    for index in range(0, 371, 61):
        bird = world.individual(index, 0)
        photo = random_photo(rng, bird.species, background=background)
        image = render(bird, photo, (120, 80))
        assert (image.mode, image.size) == ("RGB", (120, 80))
        assert np.asarray(image).std() > 8
    empty = render_with_box(None, photo, (120, 80))
    assert empty.box is None
    assert empty.image.size == (120, 80)


def test_every_family_can_be_rendered_in_every_pose(world: World) -> None:
    families = {species.family: species for species in world}
    photo = random_photo(np.random.default_rng(0), world.species(0), background="foliage")
    for number, species in enumerate(families.values()):
        for action in ACTIONS:
            posed = replace(photo, pose=replace(photo.pose, action=action), facing_left=bool(number % 2))
            result = render_with_box(world.individual(species, 0), posed, (96, 64))
            assert result.box is not None
            assert result.box[2] * result.box[3] > 0.02


def test_the_box_holds_the_bird_and_little_else(world: World) -> None:
    """What differs from the same scene with another bird at the same place lies in the box."""
    rng = np.random.default_rng(8)
    for index in range(0, 300, 37):
        bird = world.individual(index, 0)
        photo = replace(
            random_photo(rng, bird.species, background="foliage"),
            occlusion=0.0,
            defocus=0.0,
            motion=0.0,
            noise=0.0,
        )
        with_bird = np.asarray(render(bird, photo, (240, 160)), dtype=np.int16)
        white = replace(
            bird.species, plumage=replace(bird.species.plumage, back="red", belly="azure", face="lime")
        )
        changed = np.asarray(render(Individual(white, bird.seed), photo, (240, 160)), dtype=np.int16)
        box = render_with_box(bird, photo, (240, 160)).box
        assert box is not None
        rows, columns = np.nonzero(np.abs(with_bird - changed).max(axis=-1) > 40)
        assert len(rows) > 50
        assert columns.min() >= box[0] * 240 - 2
        assert columns.max() <= (box[0] + box[2]) * 240 + 2
        assert rows.min() >= box[1] * 160 - 2
        assert rows.max() <= (box[1] + box[3]) * 160 + 2


def test_a_crop_shows_the_bird_larger_than_the_photo_does(world: World) -> None:
    bird = world.individual(10, 0)
    photo = replace(random_photo(np.random.default_rng(1), bird.species), fill=0.4)
    assert render_crop(bird, photo, 96).size == (96, 96)
    box = render_with_box(bird, photo, (96, 96)).box
    assert box is not None
    assert max(box[2:]) < 0.5


def test_the_next_frame_of_a_burst_is_alike_but_not_equal(world: World) -> None:
    rng = np.random.default_rng(2)
    bird = world.individual(20, 0)
    photo = random_photo(rng, bird.species)
    other = random_photo(rng, bird.species)
    first, second, stranger = (
        np.asarray(render(bird, each, (96, 64)), dtype=np.float32)
        for each in (photo, next_frame(rng, photo), other)
    )
    assert 0 < np.abs(first - second).mean() < 0.5 * np.abs(first - stranger).mean()


def test_the_size_decides_the_detail_not_the_picture(world: World) -> None:
    bird = world.individual(33, 0)
    photo = replace(random_photo(np.random.default_rng(3), bird.species, background="sky"), noise=0.0)
    large = render(bird, photo, (960, 640)).resize((96, 64), Image.Resampling.BOX)
    small = render(bird, photo, (480, 320)).resize((96, 64), Image.Resampling.BOX)
    difference = np.abs(np.asarray(large, dtype=np.float32) - np.asarray(small, dtype=np.float32))
    assert difference.mean() < 8


def _features(image: Image.Image) -> NDArray[np.float32]:
    grey = np.asarray(image.resize((20, 20), Image.Resampling.BOX), dtype=np.float32) / 255
    return np.concatenate([grey[4:16, 4:16].ravel(), grey.mean(axis=(0, 1))])


def test_species_can_be_told_apart_by_the_nearest_mean_of_a_few_crops(world: World) -> None:
    """Even the crudest classifier is far better than chance, on birds that it has not seen."""
    seed = 11
    rng = np.random.default_rng(seed)
    labels = list(range(0, 371, 12))

    def crops(number: int) -> NDArray[np.float32]:
        made = []
        for label in labels:
            bird = world.individual(label, number)
            photo = replace(random_photo(rng, bird.species, background="foliage"), facing_left=False)
            made.append(_features(render_crop(bird, photo, 64)))
        return np.stack(made)

    means = np.mean([crops(number) for number in range(6)], axis=0)
    right = 0
    for number in range(6, 8):
        distances = np.linalg.norm(crops(number)[:, None] - means[None], axis=-1)
        right += int((distances.argmin(axis=1) == np.arange(len(labels))).sum())
    accuracy, chance = right / (2 * len(labels)), 1 / len(labels)
    print(f"seed {seed}: accuracy {accuracy:.2f}, chance {chance:.3f}")
    assert accuracy > 5 * chance


def test_backgrounds_do_not_depend_on_the_species(world: World) -> None:
    for index in (0, 70, 200):
        rng = np.random.default_rng(9)
        drawn = [random_photo(rng, world.species(index)).background for _ in range(300)]
        assert min(drawn.count(each) for each in BACKGROUNDS) > 20


def test_training_samples_are_labelled_crops_of_known_species(world: World) -> None:
    rng = np.random.default_rng(0)
    samples = [training_sample(world, rng, 48) for _ in range(12)]
    assert all(image.size == (48, 48) and image.mode == "RGB" for image, _ in samples)
    assert all(0 <= label < 371 for _, label in samples)
    assert len({label for _, label in samples}) > 6
    again = np.random.default_rng(0)
    assert all(_bytes(training_sample(world, again, 48)[0]) == _bytes(image) for image, _ in samples)


def test_arguments_out_of_range_are_refused(world: World) -> None:
    bird = world.individual(0, 0)
    photo = random_photo(np.random.default_rng(0), bird.species)
    with pytest.raises(InvalidInputError, match="size is 8x8: both have to be 16 to 8192"):
        render(bird, photo, (8, 8))
    with pytest.raises(InvalidInputError, match="background 'moon' is none of sky"):
        random_photo(np.random.default_rng(0), bird.species, background="moon")
    with pytest.raises(InvalidInputError, match="background 'moon'"):
        render(bird, replace(photo, background="moon"), (64, 64))

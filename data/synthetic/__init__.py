"""The synthetic world: invented birds, photos of them, archives with ground truth.

Everything here follows from seeds. `World` makes species, `render` and `render_crop` make pictures,
`write_archive` makes a folder as a survey leaves it, and `training_sample` makes labelled crops without end.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from birdsearch.data.synthetic.archive import ArchiveSummary, write_archive
from birdsearch.data.synthetic.photo import (
    Photo,
    Rendered,
    next_frame,
    random_photo,
    render,
    render_crop,
    render_with_box,
)
from birdsearch.data.synthetic.truth import KINDS, Truth, read_truth
from birdsearch.data.synthetic.world import Individual, Species, World

__all__ = [
    "KINDS",
    "ArchiveSummary",
    "Individual",
    "Photo",
    "Rendered",
    "Species",
    "Truth",
    "World",
    "next_frame",
    "random_photo",
    "read_truth",
    "render",
    "render_crop",
    "render_with_box",
    "training_sample",
    "write_archive",
]

# Individuals of the archives have small numbers: those that a model is trained on have none of them.
_FIRST_TRAINING_INDIVIDUAL = 1000


def training_sample(
    world: World, rng: np.random.Generator, size: int = 160, *, individuals: int = 1_000_000
) -> tuple[Image.Image, int]:
    """Render one labelled crop of a known species: species, individual and photo drawn at random.

    Half of the samples are framed tightly by the bird as a detector's crop is; the others show it
    smaller, as whole photos squeezed to a square do. No individual is one that archives show.

    Args:
        world: Where the species come from.
        rng: Where the choices come from; it is advanced.
        size: Width and height in pixels.
        individuals: How many individuals a species has.

    Returns:
        An RGB picture, and the index of its species in `world.classes`.

    Raises:
        InvalidInputError: `size` is out of range.
    """
    label = int(rng.integers(len(world.known)))
    species = world.known[label]
    bird = world.individual(species, _FIRST_TRAINING_INDIVIDUAL + int(rng.integers(individuals)))
    photo = random_photo(rng, species)
    if rng.random() < 0.5:
        return render_crop(bird, photo, size), label
    # A frame of 3:2 or 2:3 pressed into the square, as the model's own preprocessing does.
    portrait = rng.random() < 0.2
    frame = (size, round(size * 1.5)) if portrait else (round(size * 1.5), size)
    return render(bird, photo, frame).resize((size, size), Image.Resampling.BILINEAR), label

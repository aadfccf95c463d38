"""What the demo's weights know: measured on photos rendered anew, of birds that no training sample showed."""

from __future__ import annotations

import numpy as np

from birdsearch.data.synthetic import World, random_photo, render
from birdsearch.indexer.vectors.index import normalised
from birdsearch.model.inference import load_model
from birdsearch.search.metrics.retrieval import retrieval_scores

_SEED = 77_001


def test_fresh_photos_are_named_and_found_and_so_are_species_never_trained_on() -> None:
    print(f"seed {_SEED}")
    rng = np.random.default_rng(_SEED)
    world = World(seed=0)
    model = load_model("demo", device="cpu")
    assert model.classes == tuple(species.common_name for species in world.known)
    chosen = [world.known[place] for place in rng.choice(len(world.known), 40, replace=False).tolist()]
    shown = [*chosen, *list(world.unseen)[:10]]
    # Two photos each, of two individuals and with all else drawn anew. Those that training showed are other ones.
    images = [
        render(world.individual(species, number), random_photo(rng, species), (384, 256))
        for number in (0, 1)
        for species in shown
    ]
    out = model.infer(images)
    names = [species.common_name for species in shown]
    first = [model.classes[place] for place in out.logits.argmax(axis=1).tolist()]
    known = [*range(40), *range(50, 90)]
    assert np.mean([first[place] == (names * 2)[place] for place in known]) >= 0.85
    unit = normalised(out.embeddings)
    groups = [f"q{place}" for place in range(50)], [f"g{place}" for place in range(50)]
    scores = retrieval_scores(unit[:50], names, groups[0], unit[50:], names, groups[1], ks=(1,))
    found = scores.found(1)
    assert found[:40].mean() >= 0.85
    assert found[40:].mean() >= 0.6

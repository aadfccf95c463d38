"""Sizes of files as people read them."""

from __future__ import annotations

import pytest

from birdsearch.size_text import size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *((0, "0 kB"), (1, "1 kB"), (2500, "2 kB"), (9526, "10 kB"), (999_400, "999 kB")),
        *((999_600, "1.0 MB"), (10**6, "1.0 MB"), (999_960_000, "1.0 GB"), (25 * 10**8, "2.5 GB")),
        *((999_960_000_000, "1.0 TB"), (25 * 10**14, "2500.0 TB")),
    ],
)
def test_a_size_has_the_unit_that_keeps_it_short(size: int, text: str) -> None:
    assert size_text(size) == text

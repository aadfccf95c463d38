"""The least versions of what reads bytes that nobody checked, each with the reason that it is not lower."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    # CVE-2025-32434: `torch.load(weights_only=True)` ran code from a file before 2.6.
    "torch": "2.6",
    # The edition of torchvision for that torch.
    "torchvision": "0.21",
    # CVE-2026-25990, CVE-2026-40192, CVE-2026-55798 and CVE-2026-59197 to 59200: writes beyond a buffer and bombs.
    "pillow": "12.3",
    # LibRaw 0.22.2, with what fuzzing found since 0.21.
    "rawpy": "0.28",
    # CVE-2025-43859: chunked bodies that another server reads as two requests.
    "h11": "0.16",
    # CVE-2024-53981 (0.0.18), CVE-2026-24486 (0.0.22) and what followed until 0.0.26: forms that take for ever.
    "python-multipart": "0.0.26",
    # CVE-2025-62727 (0.49.1): a Range header that takes quadratic time.
    "starlette": "1.6",
}


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+")[0])[:4])


@pytest.mark.parametrize("name", FLOORS)
def test_no_version_with_a_known_hole_may_be_installed(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = [
        *project["dependencies"],
        *(one for some in project["optional-dependencies"].values() for one in some),
    ]
    found = [match[1] for one in stated if (match := re.fullmatch(rf"{re.escape(name)}>=([\d.]+)", one))]
    assert found, f"{name} has no floor in pyproject.toml"
    assert all(version(floor) >= version(FLOORS[name]) for floor in found)
    assert version(metadata.version(name)) >= version(FLOORS[name])

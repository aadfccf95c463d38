"""Install the built wheel into a clean environment outside the checkout and use it there as a person would.

Usage: python tests/wheel_smoke.py DIST
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

PHOTOS_AND_WEIGHTS = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.xcit import XCiT
folder = Path(sys.argv[1])
folder.mkdir()
for number in range(8):
    coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((320, 240)).save(folder / f"{number}.jpg")
network = XCiT(variant("xcit_nano12_p16"), 3).initialise(0)
stats = RgbStats((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
save_checkpoint(folder.parent / "weights.pt", network, ["a", "b", "c"], (64, 64), stats)
"""


def main(dist: Path) -> None:
    """Raise if anything does not work."""
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    strange = [name for name in names if not name.startswith(("birdsearch/", "birdsearch-"))]
    if strange or not any(name == "birdsearch/py.typed" for name in names):
        raise SystemExit(f"{wheel.name} holds {strange or 'no py.typed'}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        venv.create(folder / "venv", with_pip=True)
        binaries = folder / "venv" / "bin"

        def run(*command: str | Path) -> str:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
            return done.stdout

        run(binaries / "pip", "install", "--quiet", "--disable-pip-version-check", wheel.resolve())
        birdsearch = binaries / "birdsearch"
        run(birdsearch, "--help")
        run(birdsearch, "model", "list")
        run(binaries / "python", "-c", PHOTOS_AND_WEIGHTS, folder / "photos")
        catalog = ("--catalog", folder / "catalog")
        run(birdsearch, "index", "photos", "--weights", "weights.pt", *catalog)
        answer = json.loads(run(birdsearch, "query", "photos/3.jpg", "-k", "3", "--format", "json", *catalog))
        if len(answer[0]["hits"]) != 3:
            raise SystemExit(f"query answered {answer}")
        run(birdsearch, "check", "--files", *catalog)
    print(f"{wheel.name}: installed, indexed 8 photos, answered a query, verified")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

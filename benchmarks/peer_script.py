"""What a user would write to search photos: Pillow, a DataLoader of two workers, birder's network, a FAISS index.

Usage: python benchmarks/peer_script.py FOLDER WEIGHTS INDEX
"""

from __future__ import annotations

import sys
from pathlib import Path

import birder
import faiss
import numpy as np
import torch
from birder.common import fs_ops
from PIL import Image
from torch.utils.data import DataLoader, Dataset


class Photos(Dataset[torch.Tensor]):
    """Every JPEG of a folder, as the network takes it."""

    def __init__(self, folder: Path, transform: object) -> None:
        self.paths = sorted(folder.rglob("*.jpg"))
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> torch.Tensor:
        with Image.open(self.paths[place]) as image:
            found: torch.Tensor = self.transform(image.convert("RGB"))  # type: ignore[operator]
        return found


def main() -> None:
    """Embed the folder and write the index."""
    folder, weights, target = sys.argv[1:]
    network, info = fs_ops.load_model(torch.device("cpu"), "xcit_nano12_p16", path=weights, inference=True)
    photos = Photos(Path(folder), birder.classification_transform((256, 256), info.rgb_stats))
    index = faiss.IndexFlatIP(network.embedding_size)
    with torch.inference_mode():
        for batch in DataLoader(photos, batch_size=32, num_workers=2):
            vectors = np.ascontiguousarray(network.embedding(batch).numpy())
            faiss.normalize_L2(vectors)
            index.add(vectors)
    faiss.write_index(index, target)


if __name__ == "__main__":
    main()

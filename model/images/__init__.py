"""From the bytes of a photo file to an upright RGB picture, its metadata and its digest."""

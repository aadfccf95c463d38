"""Coordinates of sensitive species, coarsened in every answer."""

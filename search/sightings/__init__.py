"""Bursts, events and sightings of photos."""

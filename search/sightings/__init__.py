"""From photos to bursts, events and sightings."""

"""The label of a photo: network and verified photos fused, calibrated, with unknowns."""

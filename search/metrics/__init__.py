"""Scores of labels, retrieval and groups against known truth, on arrays."""

"""Evaluation of retrieval and labels on a user's own verified photos."""

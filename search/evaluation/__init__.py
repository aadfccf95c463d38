"""How good retrieval and labels are on a user's own verified photos."""

"""Copies of one picture: found, grouped, set aside, put back."""

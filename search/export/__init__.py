"""The files that are written for people."""

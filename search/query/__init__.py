"""From a question to the photos that answer it."""

"""Search: embeddings to hits, labels and their evidence."""

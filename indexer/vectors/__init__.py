"""The vector index: a FAISS file that follows the catalog."""

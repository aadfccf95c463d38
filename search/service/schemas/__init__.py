"""Schemas: the requests and answers of the API."""

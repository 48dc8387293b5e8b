"""The search page and its HTTP API: an ASGI app over the same searcher that the library gives."""

"""Reads published features: vectors that others computed, of frames by video id or of texts by query id."""

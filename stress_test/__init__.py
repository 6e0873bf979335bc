"""Loads a running service as its users would, and reports what it answered and how fast."""

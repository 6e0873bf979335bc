"""Loads a running service as its users would, and reports its answers and latencies."""

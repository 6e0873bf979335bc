"""Benchmarks of the service against the processor's limit and the classic design."""

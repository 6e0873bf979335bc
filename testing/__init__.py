"""Helpers shared by tests, fuzzing, fault injection and benchmarks; not installed."""

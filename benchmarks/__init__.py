"""Measures the service: against what the processor can do at most, and against the classic design."""

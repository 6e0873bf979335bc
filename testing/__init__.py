"""What tests, fuzzing, faults and benchmarks share; it is not installed."""

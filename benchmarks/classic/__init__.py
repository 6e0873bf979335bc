"""The classic design, for comparison: a Redis list, 50 ms polling on both sides, one picture at a time."""

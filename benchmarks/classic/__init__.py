"""The classic design, to compare with: a Redis list, 50 ms polling on both sides, one picture at a time."""

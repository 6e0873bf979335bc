"""HTTP as such: what comes in and goes out, whatever it is about."""

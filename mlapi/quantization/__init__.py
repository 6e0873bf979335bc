"""Makes an INT8 version of a model with somebody's pictures, and tells how it compares with the original."""

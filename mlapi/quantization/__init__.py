"""Makes an INT8 version of a model, calibrated with an operator's pictures, and compares it with the original."""

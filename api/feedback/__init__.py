"""Reports of wrong predictions: written and read."""

"""The versions of models: which serve, and how they compare."""

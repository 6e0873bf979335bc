"""Versions of models: routing rules and comparison."""

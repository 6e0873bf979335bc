"""Parses uploads: forms, JSON, base64 and the structure of image files."""

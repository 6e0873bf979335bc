"""Classifies a large collection of image files, in local processes or with a running service."""

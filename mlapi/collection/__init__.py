"""Classifies a large collection of image files, in processes of its own or by a running service."""

"""Errors of making a model; every message says what to do about it."""

from runtime.errors import SetupError


class ZooError(SetupError):
    """A model could not be added."""


class CheckpointError(ZooError):
    """A checkpoint is damaged, or holds something other than tensors."""

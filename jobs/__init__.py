"""The contract between the API and the model workers: jobs, answers, queue, image storage."""

__version__ = "0.1.0"  # of the whole project

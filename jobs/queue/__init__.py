"""The job queue: its interface, and an in-memory implementation for tests."""

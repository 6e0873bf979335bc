"""The job queue: its interface, and one in memory for tests."""

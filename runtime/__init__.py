"""Basics of every process: errors, locks, logs, signals, tracing, waiting."""

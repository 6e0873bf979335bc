"""Sends hostile requests through the real API and a real worker, and looks for 5xx answers and dead workers."""

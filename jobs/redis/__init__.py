"""The job queue and the results on Redis: connections, keys, scripts, and both sides of the queue."""

"""The contract on Redis: connections, keys, scripts, and what each side of the queue does with them."""

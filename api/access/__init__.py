"""Access control: API keys, host names and rate limits."""

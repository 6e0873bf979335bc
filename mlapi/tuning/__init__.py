"""`mlapi tune`: the fastest settings for this machine."""

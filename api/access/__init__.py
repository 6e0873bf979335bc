"""Who may call, by which name of the service, and how often."""

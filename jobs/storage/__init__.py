"""Image storage: a folder or object storage."""

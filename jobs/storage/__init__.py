"""The bytes of uploads: in a folder or in object storage."""

"""The command line: starts the services and makes models."""

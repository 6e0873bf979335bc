"""The network and its loop."""

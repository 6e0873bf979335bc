"""Breaks what the service runs on while requests flow, and checks every answer."""

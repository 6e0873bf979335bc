"""Fault injection: breaks the service's dependencies under load, and checks every answer."""

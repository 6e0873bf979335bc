"""Webhooks: what is sent, and sending it."""

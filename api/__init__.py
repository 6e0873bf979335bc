"""The HTTP API: the page, /predict, /feedback, /v1 and /v2."""

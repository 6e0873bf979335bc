"""The HTTP server in front of Flask: receives requests, and calls the application."""

"""Before Flask: receives requests, and calls the application."""

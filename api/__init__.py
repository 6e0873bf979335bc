"""HTTP in, HTTP out: the page, /predict and /feedback."""

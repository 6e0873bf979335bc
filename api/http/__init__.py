"""HTTP itself: requests, responses, headers and proxies."""

"""The API under `/v1`: predictions for one or more images, at once or later, feedback on them, and the models."""

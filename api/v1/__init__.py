"""The API under `/v1`: predictions of one image or many, at once or later, feedback on them, and the model."""

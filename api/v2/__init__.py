"""The Open Inference Protocol under `/v2`, for clients of KServe and Triton."""

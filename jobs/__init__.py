"""The contract between the API and the model workers: jobs, answers, queue, image storage."""

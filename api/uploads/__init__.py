"""What is uploaded: forms, and the structure of image files."""

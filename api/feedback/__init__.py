"""Writing and reading reports of wrong predictions."""

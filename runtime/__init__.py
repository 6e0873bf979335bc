"""What every process has: errors, locks, waiting."""

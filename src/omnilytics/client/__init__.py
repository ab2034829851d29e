"""What data owners and model owners run."""

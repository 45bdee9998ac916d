"""What is allowed in logs and probably wrong: remarks, each with its place, what it means and what to do."""

"""What a pull request is judged by, and how dvc.lock is merged."""

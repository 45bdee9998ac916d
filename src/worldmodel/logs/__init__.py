"""Log files: bytes to rows to episodes, every bad row named, each episode in its split."""

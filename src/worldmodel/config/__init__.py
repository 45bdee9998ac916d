"""params.yaml and the command line: what may be set, and what a stage may read."""

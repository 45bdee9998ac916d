"""The six stages of the pipeline, one function and one command line each."""

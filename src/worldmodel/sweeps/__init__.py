"""Many runs of the pipeline with other params, as DVC experiments."""

"""Many runs of the pipeline with other params, through DVC's queue."""

"""Where a killed training goes on: checkpoints here, in a bucket, and clearing of old ones."""

"""One frame, one episode: what makes them valid, in memory and while they wait on disk."""

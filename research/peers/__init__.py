"""Other dynamics models, written anew from their papers, to measure ours beside."""

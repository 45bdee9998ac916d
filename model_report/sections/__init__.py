"""The page's sections, one a file: each is a function from what is known to a Section."""

"""Studies: what the paper found, held against the rows of a sweep."""

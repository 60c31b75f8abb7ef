"""Studies: what the paper found, compared with the rows of a sweep."""

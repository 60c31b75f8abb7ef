"""The report: the results of a run, as numbers for machines and as one HTML file for people."""

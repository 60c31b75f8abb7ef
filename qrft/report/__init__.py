"""The report: what a run gave, as numbers for machines and as one HTML file for people."""

"""Training of the shipped weights: the citing adapter and the reader. Not needed to run docqa."""

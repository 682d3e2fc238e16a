"""Sources of the sample documents: what they say, and how each of them is drawn."""

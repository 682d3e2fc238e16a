"""`docqa eval`: how often the answers and pages are right."""

"""docqa: questions asked of long documents, answered offline, with the page or line to prove it."""

__version__ = "0.1.0"

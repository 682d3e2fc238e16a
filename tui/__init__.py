"""The terminal UI: Textual only, over `docqa.workspace`."""

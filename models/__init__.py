"""Everything that runs weights. Each module pays for its own libraries: none is loaded here."""

"""What a person asks for: frozen, hashable, and light to import."""

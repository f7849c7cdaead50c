"""A claim's pictures, made of the record of its lab; one lab a file, or two of a kind."""

"""From a model to a verdict in one go, and the same once more to see whether it comes out as it did."""

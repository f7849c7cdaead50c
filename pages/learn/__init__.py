"""Learn: a lesson on the method, on the model of the session."""

"""A generator of small scenes in plain English, with a mood that shows before it is spoken."""

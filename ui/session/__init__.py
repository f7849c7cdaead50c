"""What a session looks at, and what all sessions share."""

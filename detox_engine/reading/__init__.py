"""What directions mean, and where they light up."""

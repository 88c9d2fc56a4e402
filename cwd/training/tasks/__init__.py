"""What the loop has to know of a kind of network."""

"""What pages ask for at build time."""

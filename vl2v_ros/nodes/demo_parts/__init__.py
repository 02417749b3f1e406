"""What the demo shows, and the processes it runs."""

"""Messages: requests and streams, both ways."""

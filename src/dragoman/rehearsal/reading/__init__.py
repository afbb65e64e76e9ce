"""Reading a request of each wire into `Asked`."""

"""What models can do, how endpoints differ and where providers live: data, and pure functions over it."""

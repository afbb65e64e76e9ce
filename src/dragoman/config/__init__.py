"""Where things live, who may call, and what `dragoman.toml` says: shapes only, never what the names mean."""

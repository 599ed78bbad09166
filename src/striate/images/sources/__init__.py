"""One reader a format; each yields (key, bytes or array, fields)."""

"""Numbers for what the eye sees: filters fitted, features probed."""

"""Small real apps to read, run and copy from."""

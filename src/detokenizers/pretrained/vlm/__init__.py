"""VLMs that draw token by token."""

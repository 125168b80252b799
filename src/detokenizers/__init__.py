"""detokenizers."""

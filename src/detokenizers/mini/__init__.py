"""The embedded stack: recipes that train every part of `mini` on the embedded world, with the full-size classes."""

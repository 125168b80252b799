"""A page to look at: prompts and uploaded pictures, drawn by several decoders side by side. `detok demo` serves it.

demo_settings.py: what it can be asked for. limits.py: what it refuses. page.py: the page. serving.py: models, page, address.

browser -queue, one at a time-> limits -> drawing.live -> pictures, uncertainty, steps, seconds
"""

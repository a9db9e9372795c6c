"""Load and quality of the served packages, measured over HTTP. Nothing may import this from the other rooms."""

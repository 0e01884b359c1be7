"""What a patch is: 96 x 96 RGB pixels, labelled by its centre."""

PATCH = 96  # pixels a side
CENTRE = slice(32, 64)  # the label is about these rows and columns only

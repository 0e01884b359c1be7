"""Optical density of the stains in red, green and blue.

Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, Anal Quant Cytol Histol 23(4),
2001.
"""

HAEMATOXYLIN = (0.650, 0.704, 0.286)
EOSIN = (0.072, 0.990, 0.105)
RESIDUAL = (0.268, -0.570, 0.776)  # a third direction, so that every colour is a mixture

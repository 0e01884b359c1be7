"""Do classifiers that perform equally well on PatchCamelyon look at the same tissue?"""

"""Settings of the atlas."""

from pcam_agreement.core.settings import Count, Settings


class Atlas(Settings):
    patches: Count

"""Settings of the atlas."""

from __future__ import annotations

from pcam_agreement.core.settings import Count, Settings


class Atlas(Settings):
    patches: Count

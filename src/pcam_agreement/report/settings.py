"""Settings of the report."""

from pcam_agreement.core.settings import Count, Settings


class Report(Settings):
    ece_bins: Count
    temperature: bool
    panels: Count

"""Settings of deletion and insertion."""

from typing import Annotated

from pydantic import Field

from pcam_agreement.attribution.common.settings import Baseline
from pcam_agreement.core.settings import Count, Settings


class Faithfulness(Settings):
    patches: Count
    steps: Annotated[int, Field(ge=2)]
    fill: Baseline
    rolls: Annotated[int, Field(ge=1, le=100)]

"""All figures of a run that are drawn from its tables, by the name of their file."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from pcam_agreement.networks.recipes import Network
from pcam_agreement.report.figures import faithfulness, pairs, patches, recipes, shares, trends
from pcam_agreement.report.shares import Of


def figures(
    tables: Mapping[str, pd.DataFrame],
    tests: Mapping[str, dict],
    networks: Sequence[Network],
    headline: Of,
    titles: Mapping[str, str],
    word: str,
) -> dict[str, Figure]:
    """The figures of these tables; that of gaps where there are any.

    tests: of the gaps, by method; networks: in the order in which they are shown; titles: of the methods; word: for a
    recipe.
    """
    of_both = tables["shares"][tables["shares"]["label"] == "both"]
    of_fraction = of_both[of_both["fraction"] == headline.fraction]
    order = list(dict.fromkeys(network.recipe for network in networks if network.trained))
    drawn = {
        "shares": shares.bars(of_fraction[of_fraction["sigma"] == headline.sigma], titles, word),
        "scale": shares.over_scale(of_fraction, titles, word),
        "reliability": recipes.reliability(tables["reliability"], titles, word),
        "recipes": recipes.agreement(tables["recipes"], order, titles, word),
        "agreement": pairs.correlations(tables["agreement"], networks, titles, word),
        "curve": trends.curves(tables["curve"], titles, word),
        "strata": trends.strata_means(tables["strata"], titles, word),
        "faithfulness": faithfulness.gains(tables["faithfulness"], titles),
        "localisation": patches.localisation_bars(tables["localisation"], titles),
    }
    if not tables["gaps"].empty:
        drawn["gaps"] = trends.performance_gaps(tables["gaps"], tests, titles)
    return drawn

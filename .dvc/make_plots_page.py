"""Write plots_page.html, the page that `dvc plots` fills: with Vega inside, so that it works without a network.

The bundle (Vega, Vega-Lite and Vega-Embed, BSD-3-Clause) comes from the package vl-convert-python: `make plots-page`.
"""

from pathlib import Path

import vl_convert

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>DVC plots</title>
<style>body {{ font-family: sans-serif }} table {{ border-spacing: 15px }} img {{ max-width: 1200px }}</style>
<script>/* Vega {vega}, Vega-Lite, Vega-Embed: BSD-3-Clause, https://vega.github.io */
(() => {{ {bundle} }})()</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""

filled = PAGE.format(
    refresh_tag="{refresh_tag}",
    plot_divs="{plot_divs}",
    vega=vl_convert.get_vega_version(),
    bundle=vl_convert.javascript_bundle(),
)
Path(__file__).with_name("plots_page.html").write_text(filled, encoding="utf-8")

"""A space to look at: maps of an index, and matrices of who is like whom.

map.py       draw_map(index, "map.html"), the public door
points.py    an index -> vectors and what is known of each
flat.py      vectors -> two numbers each, by UMAP or PCA
inlined.py   pictures and sounds -> small data URIs, within a limit
page.py      the map as one HTML file; page_style.py and page_script.py are in it
png.py       the map as a picture
heatmap.py   similarity_heatmap(items, items); heatmap_png.py draws it
"""

from multimodal.views.heatmap import Heatmap, similarity_heatmap
from multimodal.views.map import MapReport, draw_map

__all__ = ["Heatmap", "MapReport", "draw_map", "similarity_heatmap"]

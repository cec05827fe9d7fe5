"""Visualisation: maps of an index, and cosine similarity matrices.

- `map`: plot_map(index, "map.html"), the entry point; `map_page`, `map_style`, `map_script` and `map_controls` make
  the HTML file, `png` the image
- `points`: the vectors of an index and what the map shows of each item
- `projection`: vectors to two dimensions, by UMAP or PCA
- `embedded_media`: thumbnails and audio as data URIs, within a size limit
- `heatmap`: similarity_heatmap(items, items)
"""

from multimodal.views.heatmap import Heatmap, similarity_heatmap
from multimodal.views.map import MapReport, plot_map

__all__ = ["Heatmap", "MapReport", "plot_map", "similarity_heatmap"]

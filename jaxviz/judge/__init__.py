"""Truth beside the picture: natural images, percentiles, ranks."""

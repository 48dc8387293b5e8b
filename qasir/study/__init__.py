"""The study: grids, resolutions, models and methods against performance and computation, on one corpus."""

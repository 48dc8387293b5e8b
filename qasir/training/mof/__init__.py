"""MOF (Han et al., 2024): meta-optimised frames, a few learned frames a video that train a model as many would."""

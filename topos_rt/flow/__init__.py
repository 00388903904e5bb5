"""From noise to a latent: solvers, settings, guidance. Pure NumPy; it knows neither engines nor heads."""

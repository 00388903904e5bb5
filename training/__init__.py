"""Train the bundled model `mini` on synthetic heads and rendered portraits."""

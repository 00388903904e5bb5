"""Train the bundled model `mini` on synthetic heads and rendered portraits."""

from topos_rt.support.boundary import guard

guard("training")

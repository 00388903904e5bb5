"""Seeds of the synthetic heads. `HeadModel.sample` depends on its count too: always draw a set as a whole."""

TRAIN_SEED = 1
HELD_OUT_SEED = 999_001

"""The parity lab: record what a model computes, compare two recordings, draw it, describe a checkpoint."""

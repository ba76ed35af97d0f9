"""Unicode as the reference sees it: generated tables, and the normalisation of a word."""

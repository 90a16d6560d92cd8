"""Are the defaults of the analysis what they claim? Type-I error, coverage, power, by simulation."""

"""The rows of the data that steps and gates name: read from files of several formats, split into parts that share nothing, sampled."""

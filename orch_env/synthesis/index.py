"""Which recorded calls can follow which: the inverted index over values of a corpus."""

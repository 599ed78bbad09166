"""Building a labelled set as CIFAR-10 was built (Krizhevsky 2009, section 3.1, appendix C)."""

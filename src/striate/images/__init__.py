"""Pictures in: readers of every source, the decoder, and the store of fixed-size pictures."""

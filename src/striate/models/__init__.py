"""Models: energies, conditionals, gradient estimators, encoders. They know no files and no trainer."""

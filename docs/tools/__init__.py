"""Tools of the documentation: its commands are run, and their output is compared with what pages quote."""

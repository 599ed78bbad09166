"""Pages that show a run and a collection: overview, filters, units, map, similar pictures, confusions."""

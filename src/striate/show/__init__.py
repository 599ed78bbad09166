"""Pictures and pages drawn from records and arrays; no statistic is computed here."""

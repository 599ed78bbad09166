"""Parameter shards and replicas as processes of Ray's, on one machine or many."""

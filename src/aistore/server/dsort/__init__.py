"""dSort: members of shards, regrouped and reordered into new shards by an external sort with bounded memory (protocol/40 B)."""

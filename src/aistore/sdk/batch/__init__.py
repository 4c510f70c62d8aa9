"""GetBatch: many objects, ranges and members of archives in one request."""

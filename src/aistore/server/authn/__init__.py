"""AuthN: the service that keeps users, roles and clusters and gives out tokens, and the check of its tokens in the node (protocol/60)."""

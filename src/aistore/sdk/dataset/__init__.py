"""Data sets as shards: files and labels of a folder become WebDataset TARs in a bucket."""

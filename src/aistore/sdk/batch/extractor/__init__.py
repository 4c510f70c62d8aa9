"""Archives of batches taken apart: for answers that were fetched raw."""

"""Multipart documents taken apart: buffered answers that were fetched raw."""

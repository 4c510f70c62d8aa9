"""What `bench/pytorch.py` runs with either SDK, in a process of its own: `python pytorch_client.py URL SAMPLES`. Prints one line of JSON."""

from __future__ import annotations

import json
import sys
import time

from torch.utils.data import DataLoader

from aistore.pytorch import AISMapDataset
from aistore.sdk import Client

BATCH = 128
WORKERS = 2


def main() -> None:
    """Samples per second of a pass over the first samples of the bucket, workers started and ended."""
    began = time.perf_counter()
    dataset = AISMapDataset(Client(sys.argv[1]).bucket("million"))
    listed = time.perf_counter() - began
    wanted = min(int(sys.argv[2]), len(dataset))
    loader = DataLoader(dataset, batch_size=BATCH, sampler=range(wanted), num_workers=WORKERS)
    began = time.perf_counter()
    got = sum(len(content) for _, contents in loader for content in contents)
    took = time.perf_counter() - began
    assert got == wanted * 1024
    print(json.dumps({"per_s": wanted / took, "list_s": listed}))


if __name__ == "__main__":
    main()

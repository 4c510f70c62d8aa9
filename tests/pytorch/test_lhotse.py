"""lhotse's release runs unchanged on this package and its server: its loader of batches, its files, its shards."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import wave
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from archives import tar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aistore import LocalCluster
    from aistore.sdk import Bucket

    Run = Callable[..., Any]

pytestmark = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("lhotse")), reason="needs PyTorch and lhotse: run make test-torch"
)

COUNT = 6
RATE = 16_000

CUTS = """
import lhotse
from lhotse import CutSet, MonoCut, Recording
from lhotse.audio import AudioSource

def cut_of(number, url):
    source = AudioSource("url", [0], url)
    recording = Recording(f"rec-{number}", [source], 16_000, 160 + number, (160 + number) / 16_000)
    return MonoCut(f"cut-{number}", 0, recording.duration, 0, recording=recording)

cuts = CutSet.from_cuts([cut_of(number, url) for number, url in enumerate(given["urls"])])
"""


def sound(number: int) -> bytes:
    """A WAV of 160 samples and a few more, all of them `number`."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(struct.pack("<h", number) * (160 + number))
    return file.getvalue()


@pytest.fixture
def run(cluster: LocalCluster) -> Run:
    """Runs a program that uses lhotse; what it put into `found`. Raises what it printed if it failed."""

    def run(code: str, **given: object) -> Any:
        program = f"import json, sys\ngiven, found = json.loads(sys.argv[1]), []\n{code}\nprint(json.dumps(found))"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, json.dumps(given)],
            env={**os.environ, "AIS_ENDPOINT": cluster.url},
            capture_output=True,
            text=True,
            timeout=240,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    return run


def stored(bucket: Bucket) -> list[str]:
    """URLs of sounds: objects of their own, then members of an archive."""
    for number in range(COUNT // 2):
        bucket.object(f"{number}.wav").get_writer().put_content(sound(number))
    members = [(f"in/{number}.wav", sound(number)) for number in range(COUNT // 2, COUNT)]
    bucket.object("dir/sounds.tar").get_writer().put_content(tar(members))
    return [f"ais://{bucket.name}/{number}.wav" for number in range(COUNT // 2)] + [
        f"ais://{bucket.name}/dir/sounds.tar/{name}" for name, _ in members
    ]


def test_a_batch_of_cuts_is_loaded_by_one_request(run: Run, bucket: Bucket) -> None:
    code = f"""{CUTS}
from lhotse.ais import AISBatchLoader
from aistore.sdk.batch.batch import Batch

loader = AISBatchLoader()
asked = []
get = Batch.get
def counted(self, *arguments, **named):
    asked.append([[one.obj_name, one.archpath, one.bck, one.provider] for one in self.requests_list])
    return get(self, *arguments, **named)
Batch.get = counted
for cut in loader(cuts):
    samples = cut.load_audio()
    found.append([cut.id, samples.shape[1], round(float(samples.max()) * 32768)])
found.append(asked)
"""
    urls = stored(bucket)
    *cuts, asked = run(code, urls=urls)
    assert cuts == [[f"cut-{number}", 160 + number, number] for number in range(COUNT)]
    plain = [[f"{number}.wav", None, bucket.name, "ais"] for number in range(COUNT // 2)]
    packed = [["dir/sounds.tar", f"in/{number}.wav", bucket.name, "ais"] for number in range(COUNT // 2, COUNT)]
    assert asked == [plain + packed]


def test_a_data_set_reads_its_batches_so(run: Run, bucket: Bucket) -> None:
    code = f"""{CUTS}
from lhotse.dataset.input_strategies import AudioSamples

audio, lengths = AudioSamples(use_batch_loader=True)(cuts)
found += [list(audio.shape), lengths.tolist(), [round(float(row.max()) * 32768) for row in audio]]
"""
    shape, lengths, values = run(code, urls=stored(bucket))
    assert shape == [COUNT, 160 + COUNT - 1]
    assert lengths == sorted(lengths) or lengths == sorted(lengths, reverse=True)
    assert sorted(values) == list(range(COUNT))


def test_a_missing_object_is_named_and_never_an_empty_sound(run: Run, bucket: Bucket) -> None:
    code = f"""{CUTS}
from lhotse.ais.batch_loader import AISBatchLoader, AISBatchLoaderError

try:
    AISBatchLoader()(cuts)
except AISBatchLoaderError as error:
    found.append(str(error))
"""
    urls = stored(bucket)
    for missing in (f"ais://{bucket.name}/none.wav", f"ais://{bucket.name}/dir/sounds.tar/none.wav"):
        (told,) = run(code, urls=[*urls[:2], missing, *urls[2:]])
        assert told.endswith("none.wav" if "tar" not in missing else "dir/sounds.tar")


def test_features_are_loaded_by_a_batch(run: Run, bucket: Bucket) -> None:
    code = """
import numpy, os, pickle
from aistore import Client
from lhotse import CutSet, Features, MonoCut
from lhotse.ais import AISBatchLoader

cuts = []
for number in range(3):
    content = pickle.dumps(numpy.full((10, 4), number, dtype=numpy.float32))  # what lhotse reads from memory
    Client(os.environ["AIS_ENDPOINT"]).bucket(given["bucket"]).object(f"f/{number}.npy").get_writer().put_content(content)
    features = Features(type="fbank", num_frames=10, num_features=4, frame_shift=0.01, sampling_rate=16000, start=0, duration=0.1,
                        storage_type="numpy_files", storage_path=f"ais://{given['bucket']}/f", storage_key=f"{number}.npy", channels=0)
    cuts.append(MonoCut(f"cut-{number}", 0, 0.1, 0, features=features))
for cut in AISBatchLoader()(CutSet.from_cuts(cuts)):
    values = cut.load_features()
    found.append([list(values.shape), float(values.max())])
"""
    assert run(code, bucket=bucket.name) == [[[10, 4], float(number)] for number in range(3)]


def test_its_files_are_objects(run: Run, bucket: Bucket, cluster: LocalCluster) -> None:
    code = f"""{CUTS}
import tempfile
from aistore import Client
from lhotse.serialization import open_best

with open_best(given["text"], "w") as file:
    file.write(bytes(range(256)) * 1000)
with open_best(given["text"], "r") as file:
    file.seek(100_003)
    found.append(list(file.read(4)))
    file.seek(-2, 2)
    found.append(list(file.read()))
with tempfile.NamedTemporaryFile(suffix=".jsonl.gz") as file:
    cuts.to_file(file.name)
    Client(given["endpoint"]).get_object_from_url(given["manifest"]).get_writer().put_file(file.name)
for cut in CutSet.from_file(given["manifest"]):
    found.append([cut.id, int(cut.load_audio().shape[1])])
"""
    urls = stored(bucket)[:2]
    place = f"ais://{bucket.name}"
    found = run(code, urls=urls, text=f"{place}/bytes.bin", manifest=f"{place}/cuts.jsonl.gz", endpoint=cluster.url)
    assert found[0] == [(100_003 + at) % 256 for at in range(4)]
    assert found[1] == [254, 255]
    assert found[2:] == [["cut-0", 160], ["cut-1", 161]]


def test_its_shards_are_read_from_a_bucket(run: Run, bucket: Bucket, cluster: LocalCluster, tmp_path: Path) -> None:
    code = f"""{CUTS}
from aistore import Client

folder = given["folder"]
cuts.to_shar(folder, fields={{"recording": "wav"}}, shard_size=2)
client = Client(given["endpoint"])
client.bucket(given["bucket"]).put_files(folder, prepend="shar/", verbose=False)
names = sorted(entry.name for entry in client.bucket(given["bucket"]).list_all_objects(prefix="shar/"))
url = f"ais://{{given['bucket']}}/"
fields = {{
    "cuts": [url + name for name in names if "cuts" in name],
    "recording": [url + name for name in names if "recording" in name],
}}
for cut in CutSet.from_shar(fields=fields):
    found.append([cut.id, int(cut.load_audio().shape[1])])
"""
    given = {"urls": stored(bucket)[: COUNT // 2], "bucket": bucket.name, "folder": str(tmp_path)}
    found = run(code, **given, endpoint=cluster.url)
    assert found == [[f"cut-{number}", 160 + number] for number in range(COUNT // 2)]

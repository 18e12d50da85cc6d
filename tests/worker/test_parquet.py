"""Parquet as its library writes it: the rows are those of the same JSON Lines."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
from arro3.io import infer_json_schema, read_json, write_parquet

from optimodel.api.sources import PVC, Dataset
from optimodel.worker.data import dataset, formats
from optimodel.worker.data.rows import TEXT, WORDS, Row
from optimodel.worker.errors import Failure

ROWS = [
    {"text": "Who?", "label": "person", "tokens": ["Who", "?"], "tags": [3, 0], "score": 0.5},
    {"text": "How far, and\nwhy, naïve 東京?", "label": None, "tokens": ["How", "far"], "tags": None, "score": None},
]


def parquet(rows, compression="snappy"):
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    out = io.BytesIO()
    table = read_json(io.BytesIO(lines), infer_json_schema(io.BytesIO(lines)))
    write_parquet(table, out, compression=compression)
    return out.getvalue()


def load(folder: Path, data: bytes, reader=TEXT, **fields):
    (folder / "d").mkdir(exist_ok=True)
    (folder / "d" / "rows.parquet").write_bytes(data)
    return dataset.load(Dataset("d", pvc=PVC("claim", "rows.parquet"), **fields), {}, folder, reader)


@pytest.mark.parametrize("compression", ["uncompressed", "snappy", "gzip(6)", "zstd(3)", "lz4_raw", "brotli(5)"])
def test_rows_are_those_of_json_lines(compression, tmp_path):
    data = parquet(ROWS, compression)
    assert load(tmp_path, data) == [Row("Who?", "person"), Row(ROWS[1]["text"], None)]
    assert load(tmp_path, data, WORDS, text_field="tokens", label_field="tags") == [
        Row("Who ?", (3, 0)),
        Row("How far"),
    ]


def test_many_rows_keep_their_order_and_say_which_is_wrong(tmp_path):
    rows = [{"text": f"question {n}", "label": n % 3} for n in range(3000)]
    assert load(tmp_path, parquet(rows)) == [Row(row["text"], row["label"]) for row in rows]
    with pytest.raises(Failure) as caught:
        load(tmp_path, parquet([*rows, {"label": 1}]))
    assert caught.value.reason == "DataInvalid" and "row 3001" in caught.value.message
    for fields in ({"text_field": "question"}, {"text_field": "question", "label_field": "kind"}):
        with pytest.raises(Failure) as caught:
            load(tmp_path, parquet(rows), **fields)
        assert "row 1" in caught.value.message and "textField" in caught.value.message


@pytest.mark.parametrize("damage", ["short", "cut", "footer", "noise", "empty"])
def test_a_damaged_file_is_refused(damage, tmp_path):
    whole = parquet([{"text": f"question {n}", "label": n % 3} for n in range(3000)])
    broken = {
        "short": b"PAR1",
        "cut": whole[:-100],
        "footer": whole[:-40] + b"\xff" * 32 + whole[-8:],
        "noise": whole[:4] + random.Random(0).randbytes(len(whole) // 2) + whole[4 + len(whole) // 2 :],
        "empty": b"",
    }[damage]
    with pytest.raises(Failure) as caught:
        load(tmp_path, broken)
    assert caught.value.reason == "DataInvalid" and caught.value.message.endswith("Write the file again.")


def test_a_small_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    data = parquet([{"text": "the same words " * 100}] * 20_000, "zstd(3)")
    assert len(data) < 1 << 20
    monkeypatch.setattr(formats, "MAX_UNPACKED_BYTES", 8 << 20)
    with pytest.raises(Failure) as caught:
        load(tmp_path, data)
    assert caught.value.reason == "DataTooLarge" and "8 MiB" in caught.value.message

"""The assignment cookie as its format says, with the edge's own key: read, or made up."""
import base64
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "vectors"))
import make_cookie  # noqa: E402

experiment_tag, unit_tag = make_cookie.experiment_tag, make_cookie.unit_tag


def key_of(edge):
    path = edge.state / "keys"
    text = edge.wait(lambda: path.exists() and path.read_text())
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return bytes.fromhex(next(line for line in lines if line))


def records_of(text):
    """The records, in their order; the signature is not looked at."""
    body = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[2:-16]
    records, at = [], 0
    while at < len(body):
        tag, unit, arm, low, high, first_low, first_high, marks = struct.unpack_from("<IBBIHHBB", body, at)
        record = {"experiment": tag, "unit_tag": unit, "arm": arm & 31, "baseline": bool(arm & 32),
                  "epoch": high << 32 | low, "first_exposure_10min": first_high << 16 | first_low,
                  "marks": marks}
        at += 16
        if arm & 128:
            (record["sum"],) = struct.unpack_from("<I", body, at)
            at += 4
        records.append(record)
    return records


def signed(edge, records):
    return make_cookie.cookie(key_of(edge), records)

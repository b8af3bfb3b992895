"""What functions refuse: one line names function, place, value and expectation, and nothing is written."""
import pytest
from lib.redis_library import CONTROL, COUNTERS, EDGES

MAX = 2**53 - 1



def shown(value):
    return value if len(value) <= 60 else value[:60] + "..."


# Arguments of merge, and what is said about them.
BAD_MERGES = [
    ((), "number of arguments: '0', expected 1 and 1 to 16 pairs"),
    (("a",), "number of arguments: '1', expected 1 and 1 to 16 pairs"),
    (("a", 5), "number of arguments: '2', expected 1 and 1 to 16 pairs"),
    (("a", 5, "1", 6), "number of arguments: '4', expected 1 and 1 to 16 pairs"),
    (("a", *(n for i in range(17) for n in (i, 1))), "number of arguments: '35', expected 1 and 1 to 16 pairs"),
    (("", 5, "1"), "instance: '', expected 1 to 64 of A-Z a-z 0-9 _ -"),
    (("a:b", 5, "1"), "instance: 'a:b', expected 1 to 64 of A-Z a-z 0-9 _ -"),
    (("a b", 5, "1"), "instance: 'a b', expected 1 to 64 of A-Z a-z 0-9 _ -"),
    (("a\r\nb\0\xe4", 5, "1"), "instance: 'a??b???', expected 1 to 64 of A-Z a-z 0-9 _ -"),
    (("a" * 65, 5, "1"), f"instance: '{'a' * 60}...', expected 1 to 64 of A-Z a-z 0-9 _ -"),
    *(((("a", epoch, "1")), f"epoch: '{epoch}', expected 0 to {MAX}")
      for epoch in ("", "x", "-1", "05", "00", "1.0", "1e3", "0x5", " 5", "5 ", MAX + 1, "9" * 17)),
    (("a", 5, "1", 5, "1"), "epoch: '5', expected each epoch once"),
    *((("a", 5, vector), f"epoch 5: vector: '{shown}', expected 1 to 512 decimals joined by commas")
      for vector, shown in [
          ("", ""), (",", ","), ("1,", "1,"), (",1", ",1"), ("1,,2", "1,,2"), ("-5", "-5"), ("1,-5", "1,-5"),
          ("nan", "nan"), ("inf", "inf"), ("NaN,1", "NaN,1"), ("1e9", "1e9"), ("1E9", "1E9"),
          ("0x10", "0x10"),
          ("1.5", "1.5"), ("1.0", "1.0"), ("+1", "+1"), ("a,b", "a,b"), ("1,null", "1,null"), ("[1]", "[1]"),
          ("1],[2", "1],[2"), ("1;2", "1;2"), ("1, 2", "1, 2"), (" 1", " 1"), ("1\n", "1?"), ("1\0", "1?"),
          ("01", "01"), ("00", "00"), ("1,02", "1,02"), ("1,00,1", "1,00,1"), ('"1"', '"1"'),
          ("\u0661", "??"),  # a digit elsewhere
          (",".join("1" * 513), "1," * 30 + "..."), ("1" * 8705, "1" * 60 + "..."),
          ("1," * 511 + "1,", "1," * 30 + "...")]),
    (("a", 5, f"1,{MAX + 1}"), f"epoch 5: entry 2: '{MAX + 1}', expected at most {MAX}"),
    (("a", 5, "18446744073709551615"), f"epoch 5: entry 1: '18446744073709551616', expected at most {MAX}"),
    (("a", 5, "1" + "0" * 400), f"epoch 5: entry 1: 'inf', expected at most {MAX}"),
]

BAD_CALLS = [
    *(("merge", arguments, told) for arguments, told in BAD_MERGES),
    ("totals", (), "number of arguments: '0', expected 2 to 1002"),
    ("totals", (0,), "number of arguments: '1', expected 2 to 1002"),
    ("totals", (0, "", *range(1001)), "number of arguments: '1003', expected 2 to 1002"),
    ("totals", ("x", ""), f"update mark: 'x', expected 0 to {MAX}"),
    ("totals", (-1, ""), f"update mark: '-1', expected 0 to {MAX}"),
    ("totals", (0, "a b"), "instance: 'a b', expected 1 to 64 of A-Z a-z 0-9 _ -"),
    ("totals", (0, "", 5, 5), "epoch: '5', expected each epoch once"),
    ("totals", (0, "", "5x"), f"epoch: '5x', expected 0 to {MAX}"),
    *((name, arguments, told) for name in ("seal", "open") for arguments, told in [
        ((), "number of arguments: '0', expected 0 and 1 to 1000 pairs"),
        ((5,), "number of arguments: '1', expected 0 and 1 to 1000 pairs"),
        (tuple(range(2002)), "number of arguments: '2002', expected 0 and 1 to 1000 pairs"),
        (("five", "text"), f"epoch: 'five', expected 0 to {MAX}"),
        ((6, "text", 5, "text", 5, "text"), "epoch: '5', expected each epoch once"),
        ((6, "text", 5, "x" * 65537), f"text: '{'x' * 60}...', expected at most 65536 bytes")]),
    ("retire", ("now",), "number of arguments: '1', expected 0"),
    ("sweep", (), "number of arguments: '0', expected 2 to 1001"),
    ("sweep", (10080,), "number of arguments: '1', expected 2 to 1001"),
    ("sweep", (10080, *("s:5:a",) * 1001), "number of arguments: '1002', expected 2 to 1001"),
    ("sweep", ("7d", "s:5:a"), f"idle minutes: '7d', expected 120 to {MAX}"),
    ("sweep", (119, "s:5:a"), f"idle minutes: '119', expected 120 to {MAX}"),
    *(("sweep", (10080, "s:5:a", field), f"field: '{field}', expected s:<epoch>:<instance> or x:<instance>")
      for field in ("", "t:5", "u", "s:5", "s::a", "s:5:", "s:x:a", "s:5:a:b", "x:", "x:a:b", "a:5",
                    " s:5:a")),
    ("write", (), "number of arguments: '0', expected 3 and 1 to 10000 pairs"),
    ("write", (0, 1, "c"), "number of arguments: '3', expected 3 and 1 to 10000 pairs"),
    ("write", (0, 1, "c", "doc"), "number of arguments: '4', expected 3 and 1 to 10000 pairs"),
    ("write", ("", 1, "c", "doc", "x"), f"expected change id: '', expected 0 to {MAX}"),
    ("write", ("01", 1, "c", "doc", "x"), f"expected change id: '01', expected 0 to {MAX}"),
    ("write", (0, 2**20, "c", "doc", "x"), "random bits: '1048576', expected 0 to 1048575"),
    ("write", (0, -1, "c", "doc", "x"), "random bits: '-1', expected 0 to 1048575"),
    ("write", (0, 1, "", "doc", "x"), "channel: '', expected 1 to 256 bytes"),
    ("write", (0, 1, "c" * 257, "doc", "x"), f"channel: '{'c' * 60}...', expected 1 to 256 bytes"),
    *(("write", (0, 1, "c", "doc", "x", field, "x"),
       f"field: '{shown(field)}', expected d, doc, doc_done, kills or x:<experiment>")
      for field in ("", "v", "n:1", "lease", "lease_until", "X:a", "x:", "x:a b", "docs", "x:" + "a" * 99)),
    ("write", (0, 1, "c", "doc", "x", "doc", "y"), "field: 'doc', expected each field once"),
    ("changes", (), "number of arguments: '0', expected 1"),
    ("changes", (0, 0), "number of arguments: '2', expected 1"),
    ("changes", ("new",), f"known change id: 'new', expected 0 to {MAX}"),
    ("lease", ("a",), "number of arguments: '1', expected 2"),
    ("lease", ("a", 0), "milliseconds: '0', expected 1 to 3600000"),
    ("lease", ("a", 3600001), "milliseconds: '3600001', expected 1 to 3600000"),
    ("lease", ("a", "1.5"), "milliseconds: '1.5', expected 1 to 3600000"),
    ("lease", ("a/b", 1), "instance: 'a/b', expected 1 to 64 of A-Z a-z 0-9 _ -"),
    ("release", (), "number of arguments: '0', expected 1"),
    ("release", ("",), "instance: '', expected 1 to 64 of A-Z a-z 0-9 _ -"),
    ("report", ("a",), "number of arguments: '1', expected 2"),
    ("report", ("", "{}"), "instance: '', expected 1 to 64 of A-Z a-z 0-9 _ -"),
    *(("report", ("a", text), f"text: '{text}', expected a JSON object")
      for text in ("", "[]", "{", "}", "1", " {}")),
    ("report", ("a", "{%s}" % ("x" * 65536)), "text: '{%s...', expected at most 65536 bytes" % ("x" * 59)),
]
KEYS = {"write": CONTROL, "changes": CONTROL, "lease": CONTROL, "release": CONTROL, "report": EDGES}


@pytest.fixture
def filled(library, client):
    """Something of everything, so that a call that were taken would show."""
    library.merge(COUNTERS, "a", 5, "1,2", 7, "3")
    library.seal(COUNTERS, 7, "")
    library.write(CONTROL, 0, 1, "c", "doc", "{}")
    library.lease(CONTROL, "b", 60000)
    library.report(EDGES, "b", "{}")
    return library


def everything(client):
    return {key: client.hgetall(key) for key in (COUNTERS, CONTROL, EDGES)}


@pytest.mark.parametrize("name, arguments, told", BAD_CALLS)
def test_malformed_calls_are_refused_and_write_nothing(filled, client, name, arguments, told):
    before = everything(client)
    refusal = filled.refusal(name, [KEYS.get(name, COUNTERS)], *arguments)
    assert refusal == f"EXPERIMENT experiment_{name}: {told}"
    assert everything(client) == before and client.dbsize() == 3


@pytest.mark.parametrize("bad", range(3))
def test_one_bad_epoch_refuses_the_call(filled, client, bad):
    """Wherever it stands: nothing is written before everything was looked at."""
    before = everything(client)
    pairs = [[5, "9,9"], [6, "1"], [8, "1,1"]]
    pairs[bad][1] = "1,x"
    words = [word for pair in pairs for word in pair]
    assert "vector: '1,x'" in filled.refusal("merge", [COUNTERS], "a", *words)
    assert everything(client) == before


def test_a_bad_vector_of_a_sealed_epoch_is_refused_as_well(filled, client):
    before = everything(client)
    assert "vector: '4,'" in filled.refusal("merge", [COUNTERS], "a", 7, "4,")
    assert f"expected at most {MAX}" in filled.refusal("merge", [COUNTERS], "a", 7, f"{MAX + 1}")
    assert everything(client) == before


@pytest.mark.parametrize("name", ["merge", "totals", "seal", "open", "retire", "sweep", "write", "changes", "lease",
                                  "release", "report"])
@pytest.mark.parametrize("keys", [[], [COUNTERS, CONTROL]])
def test_each_function_takes_one_key(library, client, name, keys):
    told = library.refusal(name, keys, "a", "1")
    assert told == f"EXPERIMENT experiment_{name}: number of keys: '{len(keys)}', expected 1"
    assert client.dbsize() == 0


def test_a_script_is_told_which_functions_there_are(library):
    if library.form == "function":
        assert "Function not found" in library.refusal("nothing", [COUNTERS])
    else:
        told = "EXPERIMENT script: function: 'experiment_nothing', expected one of the library"
        assert library.refusal("nothing", [COUNTERS]) == told


# What should not stand in a hash, who reads it, and what is said about it.
BAD_STATE = [
    (COUNTERS, "m", "2", "merge", ("a", 5, "2"), f"m of {COUNTERS}: '2', expected format 1"),
    (COUNTERS, "m", "2", "totals", (0, ""), f"m of {COUNTERS}: '2', expected format 1"),
    (COUNTERS, "m", "2", "seal", (5, ""), f"m of {COUNTERS}: '2', expected format 1"),
    (COUNTERS, "m", "2", "open", (5, ""), f"m of {COUNTERS}: '2', expected format 1"),
    (COUNTERS, "m", "2", "sweep", (120, "s:5:a"), f"m of {COUNTERS}: '2', expected format 1"),
    (COUNTERS, "m", "2", "retire", (), f"m of {COUNTERS}: '2', expected format 1"),
    (COUNTERS, "u", "many", "merge", ("a", 5, "2"), f"u of {COUNTERS}: 'many', expected a decimal"),
    (COUNTERS, "u", "many", "totals", (0, ""), f"u of {COUNTERS}: 'many', expected a decimal"),
    *((COUNTERS, "s:5:a", text, "merge", ("a", 5, "2"),
       f"epoch 5: stored vector: '{text}', expected minutes;vector")
      for text in ("", "17", "1,2", "17;", "17;x", "17;1,,2", "17;-1", "17;1e3")),
    *((COUNTERS, "t:5", text, "merge", ("a", 5, "2"),
       f"epoch 5: stored totals: '{text}', expected mark;vector")
      for text in ("", "1", "1,2", "1;", "1;x", "1;1,,2", "1;nan")),
    *((COUNTERS, "t:5", text, "totals", (0, ""), f"epoch 5: stored totals: '{text}', expected mark;vector")
      for text in ("", "1", "x;1", "1;x")),
    (CONTROL, "v", "new", "write", (0, 1, "c", "doc", "{}"),
     f"v of {CONTROL}: 'new', expected 0 to {MAX - 2**20}"),
    (CONTROL, "v", str(MAX), "write", (MAX, 1, "c", "doc", "{}"),
     f"v of {CONTROL}: '{MAX}', expected 0 to {MAX - 2**20}"),
    (CONTROL, "v", "new", "changes", (0,), f"v of {CONTROL}: 'new', expected 0 to {MAX}"),
]


@pytest.mark.parametrize("key, field, value, name, arguments, told", BAD_STATE)
def test_what_is_damaged_is_told_and_left_as_it_is(filled, client, key, field, value, name, arguments, told):
    client.hset(key, field, value)
    before = everything(client)
    assert filled.refusal(name, [key], *arguments) == f"EXPERIMENT experiment_{name}: {told}"
    assert everything(client) == before


@pytest.mark.parametrize("name, arguments", [
    ("merge", ("a", 5, "1")), ("totals", (0, "")), ("seal", (5, "")), ("open", (5, "")),
    ("retire", ()), ("sweep", (120, "s:5:a")), ("write", (0, 1, "c", "doc", "{}")), ("changes", (0,)),
    ("lease", ("a", 1000)),
    ("release", ("a",)), ("report", ("a", "{}"))])
def test_keys_of_another_type_are_told_as_the_server_tells_them(library, client, name, arguments):
    client.set(COUNTERS, "text")
    assert library.refusal(name, [COUNTERS], *arguments).startswith("WRONGTYPE ")
    assert client.get(COUNTERS) == "text"

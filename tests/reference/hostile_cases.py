"""Artefacts that every reader must refuse, each spoilt in one way; see `make_hostile_artefacts`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod
from typing import Any

from hostile_parts import (
    FROZEN_MAGIC,
    MAGIC,
    Case,
    Document,
    artefact,
    canonical,
    claimed,
    edited,
    framed,
    graph,
    header,
    joined,
    node,
    published,
    put,
    sequence,
    sound,
    tensor,
    values,
)

BAD_FORM, BAD_MODEL = "malformed", "model"
FLOAT_BITS = {
    "nan": 0x7FC00000,
    "signalling_nan": 0x7F800001,
    "infinity": 0x7F800000,
    "minus_infinity": 0xFF800000,
}
LAYERS = 1_500


def all_cases() -> Iterator[Case]:
    """Every case."""
    yield from _bytes()
    yield from _json()
    yield from _fields()
    yield from _graphs()
    yield from _sizes()
    yield from _weights()
    yield from _frozen()


def _bytes() -> Iterator[Case]:
    whole = artefact(sound())
    body = whole[56:]
    yield Case("empty", "no byte at all", b"", BAD_FORM, "cut short")
    yield Case("prefix_cut", "half a prefix", whole[:30], BAD_FORM, "cut short")
    yield Case("graph_cut", "ends within the graph", whole[:300], BAD_FORM, "do not add up")
    yield Case("weights_cut", "the last byte is missing", whole[:-1], BAD_FORM, "do not add up")
    yield Case("byte_more", "a byte follows", whole + b"\0", BAD_FORM, "do not add up")
    other = b"OMNIART1" + whole[8:]
    yield Case("version_1", "a version that is gone", other, BAD_FORM, "known version")
    yield Case(
        "pickle", "a pickle, which would run", b"\x80\x04cos\nsystem\n" * 9, BAD_FORM, "known"
    )
    yield Case("zip", "an archive of torch", b"PK\x03\x04" + bytes(80), BAD_FORM, "known version")
    for name, lengths in {
        "lengths_overflow": (1 << 63, 1 << 63),
        "lengths_huge": (1 << 62, 1 << 62),
        "graph_of_no_length": (0, len(body)),
        "weights_of_no_length": (len(body), 0),
    }.items():
        data = struct.pack("<8sQQ32s", MAGIC, *lengths, bytes(32)) + body
        yield Case(name, f"lengths {lengths}", data, BAD_FORM, "not add up|not JSON")
    weights = header(published(sound())) + values(published(sound()))
    for name, text, words in (
        ("no_graph", b"", "not JSON"),
        ("not_json", b"{", "not JSON"),
        ("not_ascii", '{"name":"\u00e9"}'.encode(), "not JSON"),
        ("not_utf8", b'{"name":"\xff"}', "not JSON"),
        ("null", b"null", "not an object"),
        ("list", b"[]", "not an object"),
    ):
        yield Case(name, f"the graph is {text[:20]!r}", joined(text, weights), BAD_FORM, words)


def _json() -> Iterator[Case]:
    text, end = canonical(sound()), header(published(sound())) + values(published(sound()))
    nests = {"lists": b"[" * 200_000, "objects": b'{"a":' * 100_000, "braces": b"{" * 400_000}
    for name, deep in nests.items():
        yield Case(
            f"nested_{name}", "nested deeply", joined(deep, end), BAD_FORM, "nested too deep"
        )
    digits = text.replace(b'"version":2', b'"version":' + b"9" * 100_000)
    yield Case("digits", "a number of 100,000 digits", joined(digits, end), BAD_FORM, "not JSON")
    huge = text.replace(b'"version":2', b'"version":1e999')
    yield Case("float_overflow", "a number beyond floats", joined(huge, end), BAD_FORM, "version")
    for name, number in (("nan", b"NaN"), ("infinity", b"-Infinity")):
        spoilt = text.replace(b"1e-05", number)
        yield Case(
            f"json_{name}", f"epsilon {number!r}", joined(spoilt, end), BAD_FORM, "not finite"
        )
    twice = text.replace(b'"version":2', b'"version":2,"version":2')
    yield Case("field_twice", "one field twice", joined(twice, end), BAD_FORM, "twice")
    for name, spoilt in (
        ("space", text + b" "),
        ("escape", text.replace(b'"conv"', b'"\\u0063onv"')),
        ("exponent", text.replace(b"1e-05", b"0.00001")),
    ):
        yield Case(f"form_{name}", "another form of it", joined(spoilt, end), BAD_FORM, "canonical")
    long = text + b" " * (1 << 20)
    yield Case("graph_long", "more than a mebibyte of it", joined(long, end), BAD_FORM, "too long")
    surrogate = text.replace(b'"conv"', b'"\\ud800"')
    yield Case("surrogate", "half a character", joined(surrogate, end), BAD_MODEL, "malformed name")


def _fields() -> Iterator[Case]:
    spoilt: list[tuple[str, Any, str, str]] = [
        ("format_other", put("format", "omnilytics/other"), BAD_FORM, "known version"),
        ("version_other", put("version", 3), BAD_FORM, "known version"),
        ("version_true", put("version", True), BAD_FORM, "known version"),
        ("field_unknown", put("code", "import os"), BAD_FORM, "unknown field"),
        ("field_missing", lambda graph: graph.pop("dtype"), BAD_FORM, "lacks a field"),
        ("dtype_other", put("dtype", "float16"), BAD_FORM, "dtype is unknown"),
        ("kind_other", put("input", "kind", "pickle"), BAD_FORM, "kind is unknown"),
        ("role_other", put("tensors", 0, "role", "secret"), BAD_FORM, "role of tensor"),
        ("role_list", put("tensors", 0, "role", ["trained"]), BAD_FORM, "role of tensor"),
        ("nodes_object", put("nodes", {}), BAD_FORM, "not a list"),
        ("node_number", put("nodes", 0, 7), BAD_FORM, "not an object"),
        ("node_code", put("nodes", 0, "code", "import os"), BAD_FORM, "unknown field"),
        ("operation_unknown", put("nodes", 0, "operation", "exec"), BAD_MODEL, "unknown operation"),
        ("operation_list", put("nodes", 0, "operation", ["relu"]), BAD_MODEL, "unknown operation"),
        ("operation_dunder", put("nodes", 0, "operation", "__init__"), BAD_MODEL, "unknown oper"),
        ("attributes_list", put("nodes", 0, "attributes", []), BAD_FORM, "not an object"),
        ("attribute_more", put("nodes", 2, "attributes", "slope", 0.1), BAD_FORM, "unknown field"),
        ("attribute_less", put("nodes", 0, "attributes", {}), BAD_FORM, "lacks a field"),
        ("stride_zero", put("nodes", 0, "attributes", "stride", [0, 1]), BAD_MODEL, "stride"),
        ("stride_huge", put("nodes", 0, "attributes", "stride", [1, 1 << 80]), BAD_MODEL, "stride"),
        ("stride_true", put("nodes", 0, "attributes", "stride", [True, 1]), BAD_MODEL, "stride"),
        ("stride_text", put("nodes", 0, "attributes", "stride", ["1", "1"]), BAD_MODEL, "stride"),
        ("stride_long", put("nodes", 0, "attributes", "stride", [1] * 99), BAD_MODEL, "stride"),
        ("padding_below", put("nodes", 0, "attributes", "padding", [-1, 1]), BAD_MODEL, "padding"),
        ("groups_zero", put("nodes", 0, "attributes", "groups", 0), BAD_MODEL, "groups"),
        ("groups_float", put("nodes", 0, "attributes", "groups", 1.0), BAD_MODEL, "groups"),
        ("groups_many", put("nodes", 0, "attributes", "groups", 1 << 20), BAD_MODEL, "not fit"),
        ("epsilon_zero", put("nodes", 1, "attributes", "epsilon", 0.0), BAD_MODEL, "epsilon"),
        ("epsilon_below", put("nodes", 1, "attributes", "epsilon", -1.0), BAD_MODEL, "epsilon"),
        ("epsilon_list", put("nodes", 1, "attributes", "epsilon", [1e-5]), BAD_MODEL, "epsilon"),
        ("epsilon_whole", put("nodes", 1, "attributes", "epsilon", 1), BAD_MODEL, "epsilon"),
        ("inputs_text", put("nodes", 0, "inputs", "input"), BAD_FORM, "not a list"),
        ("inputs_number", put("nodes", 0, "inputs", [0]), BAD_FORM, "not a string"),
        ("inputs_many", put("nodes", 0, "inputs", ["input"] * 9_999), BAD_FORM, "too many entries"),
    ]
    for name, edit, code, words in spoilt:
        yield Case(name, "a field is spoilt", artefact_of(edited(edit)), code, words)


def artefact_of(document: Document) -> bytes:
    """An artefact whose graph may have no tensors to speak of: with the sound one's weights."""
    tensors = published(sound())
    return joined(canonical(document), header(tensors) + values(tensors))


def _graphs() -> Iterator[Case]:
    names = {
        "parent": "../../etc/passwd",
        "absolute": "/etc/passwd",
        "hidden": ".bashrc",
        "terminal": "\x1b[2J",
        "line": "conv\nmalicious",
        "empty": "",
        "long": "x" * 129,
        "dunder_path": "a/b",
        "zero_byte": "conv\0",
        "foreign": "c\u043envolution",
    }
    for name, text in names.items():
        for place in ("tensors", "nodes"):
            data = artefact_of(edited(put(place, 0, "name", text)))
            yield Case(f"name_{name}_{place}", repr(text)[:40], data, BAD_MODEL, "malformed name")
    spoilt: list[tuple[str, Any, str, str]] = [
        ("cycle", put("nodes", 0, "inputs", ["relu"]), BAD_MODEL, "not made before"),
        ("cycle_of_one", put("nodes", 2, "inputs", ["relu"]), BAD_MODEL, "not made before"),
        ("reads_unknown", put("nodes", 2, "inputs", ["nothing"]), BAD_MODEL, "not made before"),
        ("reads_two", put("nodes", 2, "inputs", ["norm", "conv"]), BAD_MODEL, "number of inputs"),
        ("reads_none", put("nodes", 2, "inputs", []), BAD_MODEL, "number of inputs"),
        ("node_twice", put("nodes", 1, "name", "conv"), BAD_MODEL, "one name"),
        ("node_input", put("nodes", 1, "name", "input"), BAD_MODEL, "one name"),
        ("tensor_twice", put("tensors", 2, "name", "norm.weight"), BAD_MODEL, "one name"),
        ("tensor_unknown", put("nodes", 5, "tensors", ["head"]), BAD_MODEL, "unknown tensor"),
        ("tensor_none", put("nodes", 5, "tensors", []), BAD_MODEL, "number of tensors"),
        (
            "tensor_used_twice",
            put("nodes", 5, "tensors", ["head.weight", "norm.bias"]),
            BAD_MODEL,
            "not fit",
        ),
        ("tensor_unused", put("nodes", 5, "tensors", ["head.weight"]), BAD_MODEL, "used by no"),
        ("no_nodes", put("nodes", []), BAD_MODEL, "no nodes"),
        ("no_tensors", put("tensors", []), BAD_MODEL, "no tensors"),
        ("role_statistic", put("tensors", 5, "role", "statistic"), BAD_MODEL, "another role"),
        ("role_trained", put("tensors", 3, "role", "trained"), BAD_MODEL, "another role"),
        ("tokens_to_conv", put("input", {"kind": "tokens", "shape": [4]}), BAD_MODEL, "tokens"),
        ("input_rank", put("input", "shape", [1, 1, 4, 4]), BAD_MODEL, "number of dimensions"),
        ("input_empty", put("input", "shape", []), BAD_MODEL, "impossible shape"),
        ("input_zero", put("input", "shape", [1, 0, 4]), BAD_MODEL, "impossible shape"),
        ("input_long", put("input", "shape", [1] * 1_000), BAD_FORM, "too many entries"),
        ("shape_float", put("tensors", 5, "shape", [3, 8.0]), BAD_FORM, "not made of integers"),
        ("shape_below", put("tensors", 5, "shape", [-3, -8]), BAD_MODEL, "impossible shape"),
        ("shape_lie", put("tensors", 5, "shape", [8, 3]), BAD_MODEL, "not fit"),
        ("shape_bias", put("tensors", 6, "shape", [4]), BAD_MODEL, "not fit"),
        ("shape_true", put("tensors", 6, "shape", [True]), BAD_FORM, "not made of integers"),
    ]
    for name, edit, code, words in spoilt:
        yield Case(name, "a graph that is none", artefact_of(edited(edit)), code, words)
    loose = sound()
    loose["nodes"].insert(3, node("loose", "relu", ["norm"]))
    yield Case("value_unused", "a dead end", artefact_of(loose), BAD_MODEL, "takes no part")


def _sizes() -> Iterator[Case]:
    giant = graph(
        [1 << 15], [tensor("w", 1 << 15, 1 << 15)], [node("w", "linear", ["input"], ("w",))]
    )
    yield Case("billion", "2^30 weights claimed, none sent", claimed(giant), BAD_MODEL, "too many")
    beyond = edited(put("tensors", 5, "shape", [1 << 62, 1 << 62]))
    yield Case("dimension_huge", "2^124 weights", claimed(beyond), BAD_MODEL, "impossible shape")
    picture = edited(put("input", "shape", [1, 1 << 24, 1 << 24]))
    yield Case("picture_huge", "2^48 pixels", claimed(picture), BAD_MODEL, "impossible shape")
    yield Case("padding_huge", "an image padded to 2^26", claimed(_padded()), BAD_MODEL, "too many")
    yield Case("pool_huge", "1 pixel pooled to 2^24", claimed(_pooled()), BAD_MODEL, "too many")
    yield Case(
        "doubling", "joined with itself 60 times", claimed(_doubling()), BAD_MODEL, "impossible"
    )
    long = edited(put("input", "shape", [1 << 20]), sequence)
    yield Case("attention_long", "2^40 pairs of tokens", claimed(long), BAD_MODEL, "too many")
    heads = edited(put("nodes", 2, "attributes", "heads", 1 << 23), sequence)
    yield Case("heads_many", "2^23 heads of 4 features", claimed(heads), BAD_MODEL, "do not divide")
    yield Case("costly", "small weights, 2^37 steps", claimed(_costly()), BAD_MODEL, "too many")
    many = edited(put("nodes", [7] * 5_000))
    yield Case("nodes_many", "5,000 nodes", artefact_of(many), BAD_FORM, "too many entries")
    numbered = [tensor(f"t{number}", 1) for number in range(5_000)]
    crowd = edited(put("tensors", numbered))
    yield Case("tensors_many", "5,000 tensors", artefact_of(crowd), BAD_FORM, "too many entries")
    deep = [node("n0", "relu", ["input"])]
    deep += [node(f"n{i}", "relu", [f"n{i - 1}"]) for i in range(1, LAYERS)]
    deep.append(node("w", "linear", [f"n{LAYERS - 1}"], ("w",)))
    chain = graph([1 << 14], [tensor("w", 1, 1 << 14)], deep)
    yield Case("chain_long", f"{LAYERS} values of 2^14", claimed(chain), BAD_MODEL, "too many")


def _padded() -> Document:
    pads: Document = {"channels": [0, 0], "height": [4096, 4096], "width": [4096, 4096]}
    nodes = [node("pad", "pad2d", ["input"], **pads), _pool("pool", "pad", [1, 1])]
    return _imaged(nodes)


def _pooled() -> Document:
    return _imaged([_pool("grow", "input", [4096, 4096]), _pool("pool", "grow", [1, 1])])


def _doubling() -> Document:
    nodes = [node("join0", "concatenate", ["input", "input"])]
    nodes += [node(f"join{i}", "concatenate", [f"join{i - 1}"] * 2) for i in range(1, 60)]
    return graph([1], [tensor("w", 1, 1)], [*nodes, node("w", "linear", ["join59"], ("w",))])


def _costly() -> Document:
    window: Document = {"stride": [1, 1], "padding": [16, 16], "dilation": [1, 1], "groups": 1}
    nodes = [
        node("wide", "conv2d", ["input"], ("wide",), **window),
        node("narrow", "conv2d", ["wide"], ("narrow",), **window),
        _pool("pool", "narrow", [1, 1]),
    ]
    tensors = [tensor("wide", 64, 1, 33, 33), tensor("narrow", 1, 64, 33, 33)]
    found = _imaged(nodes, [1, 1024, 1024])
    found["tensors"] = [*tensors, *found["tensors"]]
    return found


def _pool(name: str, value: str, size: list[int]) -> Document:
    return node(name, "adaptive_avg_pool2d", [value], output_size=size)


def _imaged(nodes: list[Document], shape: list[int] | None = None) -> Document:
    ends = [node("flatten", "flatten", ["pool"]), node("w", "linear", ["flatten"], ("w",))]
    return graph(shape or [1, 1, 1], [tensor("w", 2, 1)], [*nodes, *ends])


def _weights() -> Iterator[Case]:
    tensors = published(sound())
    text, right, data = canonical(sound()), header(tensors), values(tensors)
    for name, bits in FLOAT_BITS.items():
        for place, start in (("first", 0), ("last", len(data) - 4)):
            spoilt = data[:start] + struct.pack("<I", bits) + data[start + 4 :]
            about = f"the {place} weight is {name}"
            whole = joined(text, right + spoilt)
            yield Case(f"weight_{name}_{place}", about, whole, BAD_MODEL, "NaN or infinite")

    def entries() -> dict[str, Any]:
        found, offset = {}, 0
        for each in tensors:
            count = 4 * prod(each["shape"])
            found[each["name"]] = {
                "dtype": "F32",
                "shape": each["shape"],
                "data_offsets": [offset, offset + count],
            }
            offset += count
        return found

    def lie(name: str, **fields: Any) -> bytes:
        changed = entries()
        changed[name] = {**changed[name], **fields}
        return framed(changed)

    assert framed(entries()) == right
    headers = {
        "shape": lie("head.weight", shape=[8, 3]),
        "dtype": lie("head.bias", dtype="F64"),
        "overlap": lie("head.bias", data_offsets=[0, 12]),
        "beyond": lie("head.bias", data_offsets=[0, 1 << 62]),
        "order": framed(dict(reversed(entries().items()))),
        "metadata": framed({"__metadata__": {"format": "pt"}, **entries()}),
        "missing": framed({name: entries()[name] for name in list(entries())[1:]}),
        "length_huge": struct.pack("<Q", 1 << 62) + right[8:],
        "length_none": bytes(8) + right[8:],
        "empty": b"",
    }
    for name, spoilt in headers.items():
        whole = joined(text, spoilt + data)
        yield Case(f"header_{name}", "another header", whole, BAD_FORM, "header is not the one")
    for name, spoilt in {"short": data[:-4], "long": data + bytes(4)}.items():
        whole = joined(text, right + spoilt)
        yield Case(f"weights_{name}", "a weight too few or too many", whole, BAD_FORM, "length")


def _frozen() -> Iterator[Case]:
    document = edited(put("tensors", 5, "role", "frozen"))
    data = artefact(document, frozen=bytes([7]) * 32)
    tensors = [each for each in document["tensors"] if each["role"] == "frozen"]
    right = FROZEN_MAGIC + header(tensors) + values(tensors)
    yield Case("frozen_missing", "what it refers to is not there", data, BAD_FORM, "not here")
    for name, spoilt, code, words in (
        ("magic", b"OMNIFRZ1" + right[8:], BAD_FORM, "known version"),
        ("artefact", artefact(sound()), BAD_FORM, "known version"),
        ("cut", right[:-1], BAD_FORM, "another length"),
        ("long", right + bytes(4), BAD_FORM, "another length"),
        ("header", right.replace(b"head.weight", b"head.w\\u0065"), BAD_FORM, "header is not"),
        ("nan", right[:-4] + struct.pack("<I", FLOAT_BITS["nan"]), BAD_MODEL, "NaN or infinite"),
    ):
        yield Case(f"frozen_{name}", "frozen weights are spoilt", data, code, words, frozen=spoilt)
    unsaid = artefact(document)
    yield Case(
        "frozen_unsaid", "no hash of them", unsaid, BAD_MODEL, "content's hash", frozen=right
    )
    needless = artefact(sound(), frozen=bytes([7]) * 32)
    yield Case("frozen_needless", "a hash of nothing", needless, BAD_MODEL, "content's hash")
    all_frozen = sound()
    for each in all_frozen["tensors"]:
        if each["role"] == "trained":
            each["role"] = "frozen"
    nothing = artefact(all_frozen, frozen=bytes([7]) * 32)
    yield Case("frozen_all", "nothing is trained", nothing, BAD_MODEL, "no tensor is trained")

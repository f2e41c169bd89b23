"""Damaged and hostile files, each decided by a seed and a number.

Most are a good file with something broken: cut off, bits turned, numbers blown up, with more weight where the format
keeps its structure than in its arrays. The rest are made to harm: pickles that call, archives that grow, links that
lead out.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable

import h5py
import numpy as np

Mutator = Callable[[bytes, np.random.Generator], bytes]
HOSTILE_SHARE = 0.4
BLOCK_BYTES = 2**20
GROWN_BYTES = 2**31  # what a bomb grows to: twice of what a reader may take
EXTREMES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
MARKS = (b"TREE", b"SNOD", b"HEAP", b"OHDR", b"FRHP", b"GCOL", b"OCHK", b"\x89HDF", b"PK\x01\x02", b"PK\x05\x06")
MARKS = (*MARKS, b"PK\x03\x04", b"data_offsets", b"ctorch", b"torch", b"F32", b"storage")


def mutant(name: str, bases: dict[str, bytes], canary: str, seed: int, number: int) -> tuple[str, bytes]:
    """How the mutant was made, and its content."""
    rng = np.random.default_rng([seed, number, sum(name.encode())])
    hostile = HOSTILE[name]
    if rng.random() < HOSTILE_SHARE:
        make = hostile[int(rng.integers(len(hostile)))]
        return make.__name__, make(bases[name], rng, canary)
    damage = DAMAGES[int(rng.choice(len(DAMAGES), p=WEIGHTS))]
    if damage is foreign:
        return "foreign", foreign(bases, rng)
    if name == "whole.keras" and rng.random() < 0.6:  # a zip guards its members with a sum, which hides what they hold
        return f"member {damage.__name__}", _with_member(bases[name], "model.weights.h5", lambda one: damage(one, rng))
    return damage.__name__, damage(bases[name], rng)


def truncated(base: bytes, rng: np.random.Generator) -> bytes:
    return base[: int(rng.integers(len(base)))]


def flipped(base: bytes, rng: np.random.Generator) -> bytes:
    content = bytearray(base)
    for _ in range(int(rng.integers(1, 9))):
        content[_place(base, rng, 1)] ^= 1 << int(rng.integers(8))
    return bytes(content)


def blown_up(base: bytes, rng: np.random.Generator) -> bytes:
    content = bytearray(base)
    width = int(rng.choice([1, 2, 4, 8]))
    place = _place(base, rng, width)
    value = EXTREMES[int(rng.integers(len(EXTREMES)))] % 2 ** (8 * width)
    content[place : place + width] = value.to_bytes(width, "little")
    return bytes(content)


def spliced(base: bytes, rng: np.random.Generator) -> bytes:
    length = min(len(base), int(rng.integers(1, 600)))
    source, target = (_place(base, rng, length) for _ in range(2))
    content = bytearray(base)
    content[target : target + length] = base[source : source + length]
    return bytes(content)


def foreign(bases: dict[str, bytes], rng: np.random.Generator) -> bytes:
    texts = [b"", b"hello", bytes(4096), rng.bytes(4096), b"\x80\x02" + rng.bytes(2000), b"PK\x03\x04" + rng.bytes(900)]
    texts += [b"\x89HDF\r\n\x1a\n" + rng.bytes(2000), b"<html>not found</html>", *bases.values()]
    return texts[int(rng.integers(len(texts)))]


DAMAGES = (truncated, flipped, blown_up, spliced, foreign)
WEIGHTS = (0.15, 0.4, 0.25, 0.1, 0.1)


def _place(base: bytes, rng: np.random.Generator, length: int) -> int:
    """Where to damage: at the beginning, at the end, behind a mark of the format, or anywhere."""
    kind, last = rng.random(), max(1, len(base) - length)
    if kind < 0.25:
        return int(rng.integers(min(last, 2048)))
    if kind < 0.4:
        return max(0, last - 1 - int(rng.integers(min(last, 2048))))
    if kind < 0.85:
        found = base.find(MARKS[int(rng.integers(len(MARKS)))], int(rng.integers(last)))
        if found >= 0:
            return min(last - 1, found + int(rng.integers(64)))
    return int(rng.integers(last))


def _with_member(base: bytes, name: str, change: Callable[[bytes], bytes], **how: object) -> bytes:
    """The archive, one member of it changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(base)) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.namelist():
            new.writestr(member, change(old.read(member)) if member == name else old.read(member), **how)
    return out.getvalue()


def deflated_zeros(size: int) -> bytes:
    """A zlib stream of `size` zeros, made without holding them."""
    packer = zlib.compressobj(9)
    start = packer.compress(bytes(BLOCK_BYTES)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(BLOCK_BYTES)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + block * (size // BLOCK_BYTES - 1) + b"\x03\x00"  # its last block is empty


# HDF5


def _edited(base: bytes, edit: Callable[[h5py.File], None]) -> bytes:
    file = io.BytesIO(base)
    with h5py.File(file, "r+") as root:
        edit(root)
    return file.getvalue()


def _replaced(root: h5py.File, rng: np.random.Generator, make: Callable[[h5py.Group, str, h5py.Dataset], None]) -> None:
    """Some array of the file, made anew by `make`."""
    paths: list[str] = []
    root.visititems(lambda path, member: paths.append(path) if isinstance(member, h5py.Dataset) else None)
    path = paths[int(rng.integers(len(paths)))]
    old = root[path]
    del root[path]
    make(root, path, old)


def h5_links(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    def edit(root: h5py.File) -> None:
        kind = int(rng.integers(4))
        if kind == 0:
            root["round"] = root
            inner = root.create_group("outer/inner")
            inner["up"] = root["outer"]
        elif kind == 1:
            root["soft"] = h5py.SoftLink(["/", "/soft", "/nowhere"][int(rng.integers(3))])
        elif kind == 2:
            root["out"] = h5py.ExternalLink([canary, "/etc/passwd", "mutant"][int(rng.integers(3))], "/")
        else:
            _replaced(root, rng, lambda group, path, _: group.__setitem__(path, h5py.ExternalLink("/etc/passwd", "/x")))

    return _edited(base, edit)


def h5_out_of_the_file(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    def make(group: h5py.Group, path: str, old: h5py.Dataset) -> None:
        shape = old.shape or (1,)
        if rng.random() < 0.5:
            group.create_dataset(path, shape, "<f4", external=[("/etc/passwd", 0, h5py.h5s.UNLIMITED)])
        else:
            layout = h5py.VirtualLayout(shape, "<f4")
            layout[...] = h5py.VirtualSource("/etc/passwd", "x", shape)
            group.create_virtual_dataset(path, layout)

    return _edited(base, lambda root: _replaced(root, rng, make))


def h5_huge(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    def make(group: h5py.Group, path: str, old: h5py.Dataset) -> None:
        shape = [(2**40,), (2**20, 2**20), (2**62,), (2**31, 2)][int(rng.integers(4))]
        group.create_dataset(path, shape, old.dtype, chunks=tuple(min(side, 1024) for side in shape))

    return _edited(base, lambda root: _replaced(root, rng, make))


def h5_bomb(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    def make(group: h5py.Group, path: str, old: h5py.Dataset) -> None:
        shape = old.shape or (1,)
        chunk = (2**20, *(1,) * (len(shape) - 1))  # a smaller one is not written with so much in it
        endless = (None,) * len(shape)
        array = group.create_dataset(path, shape, "<f4", chunks=chunk, maxshape=endless, compression="gzip")
        array.id.write_direct_chunk((0,) * len(shape), deflated_zeros(GROWN_BYTES))

    return _edited(base, lambda root: _replaced(root, rng, make))


def h5_huge_chunk(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    def make(group: h5py.Group, path: str, old: h5py.Dataset) -> None:
        shape = old.shape or (1,)
        chunk = (2**29, *(1,) * (len(shape) - 1))
        group.create_dataset(path, shape, "<f4", chunks=chunk, maxshape=(None,) * len(shape), fillvalue=1.0)

    return _edited(base, lambda root: _replaced(root, rng, make))


def h5_odd_type(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    kinds = [h5py.string_dtype(), h5py.vlen_dtype(np.float32), np.dtype("S8"), np.dtype([("a", "f4"), ("b", "i8")])]
    kinds += [np.dtype("?"), np.dtype("c8"), h5py.ref_dtype, np.dtype("V1"), np.dtype("V2"), np.dtype(">f8")]
    kinds += [h5py.enum_dtype({"a": 1}), np.dtype("V3"), np.dtype("f2")]

    def make(group: h5py.Group, path: str, old: h5py.Dataset) -> None:
        group.create_dataset(path, old.shape, kinds[int(rng.integers(len(kinds)))])

    return _edited(base, lambda root: _replaced(root, rng, make))


def h5_deep(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    depth = int(rng.choice([90, 400, 3000]))

    def edit(root: h5py.File) -> None:
        group = root
        for _ in range(depth):
            group = group.create_group("vars")

    return _edited(base, edit)


def h5_empty_or_named(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    def make(group: h5py.Group, path: str, old: h5py.Dataset) -> None:
        kind = int(rng.integers(3))
        group[path] = h5py.Empty("f4") if kind == 0 else np.dtype("f8") if kind == 1 else np.zeros((0, 3), "f4")

    return _edited(base, lambda root: _replaced(root, rng, make))


def h5_attributes(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    values = [
        "x",
        3,
        np.zeros(3),
        h5py.Empty("f4"),
        [b"\xff\xfe", b"a/../../b"],
        np.array([b""]),
        [b"conv1_conv"] * 3000,
    ]
    values += [_json_trick(rng)[:60_000], [b"resnet50v2"] * 5]
    names = ("layer_names", "weight_names", "name", "model_config", "layer_names0", "layer_names1")

    def edit(root: h5py.File) -> None:
        groups = [root]
        root.visititems(lambda _, member: groups.append(member) if isinstance(member, h5py.Group) else None)
        for _ in range(3):
            holder = groups[int(rng.integers(len(groups)))]
            present = [name for name in holder.attrs if rng.random() < 0.8]
            holder.attrs[(present or names)[int(rng.integers(len(present or names)))]] = values[
                int(rng.integers(len(values)))
            ]

    return _edited(base, edit)


def _json_trick(rng: np.random.Generator) -> str:
    step = '{"class_name": "%s", "name": "%s", "config": {"name": "%s"}, "inbound_nodes": %s}'
    call = '[{"args": [{"class_name": "__keras_tensor__", "config": {"keras_history": ["%s", 0, 0]}}], "kwargs": {}}]'
    circle = ", ".join(step % ("Rescaling", one, one, call % other) for one, other in (("a", "b"), ("b", "a")))
    model = '{"class_name": "Functional", "config": {"layers": [%s]}}'
    first = step % ("Conv2D", "conv1_conv", "conv1_conv", call % "a")
    code = first + ', {"class_name": "Lambda", "name": "a", "config": {"name": "a", "function": {"class_name": '
    code += '"__lambda__", "config": {"code": "4wEAAAAAAAAA", "defaults": null}}}, "inbound_nodes": []}'
    scale = '{"class_name": "Rescaling", "name": "a", "config": {"name": "a", "scale": %s}, "inbound_nodes": %s}'
    nested = "[" * 50 + "1" + "]" * 50
    texts = ["[" * 200_000, '{"a":' * 200_000, "null", "{}", '"x"', "NaN", "9" * 100_000, model % f"{first}, {circle}"]
    texts += [
        model % code,
        *(model % f"{first}, {scale % (one, '[]')}" for one in ("NaN", "1e999", "[1,2]", nested, "{}")),
    ]
    return texts[int(rng.integers(len(texts)))]


# Archives


def zip_claims(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    """The central directory claims other sizes than there are."""
    content = bytearray(base)
    entry = [place for place in range(len(base)) if base[place : place + 4] == b"PK\x01\x02"]
    place = entry[int(rng.integers(len(entry)))]
    field = place + int(rng.choice([10, 20, 24, 42]))  # method, packed size, size, where it begins
    struct.pack_into("<I" if field != place + 10 else "<H", content, field, int(rng.choice([0, 8, 12, 14, 65_000])))
    if rng.random() < 0.5:
        struct.pack_into("<I", content, place + 24, int(rng.choice([2**31, 2**32 - 2, 2**28])))
    return bytes(content)


def zip_bomb(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    """A member that grows a thousandfold; it is its packed form that is kept here, not what it grows to."""
    names = zipfile.ZipFile(io.BytesIO(base)).namelist()
    target = [name for name in names if name.endswith(("weights.h5", "config.json", "data.pkl", "data/0"))]
    name = target[int(rng.integers(len(target)))]
    packed = deflated_zeros(GROWN_BYTES - BLOCK_BYTES)[2:]
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(base)) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.namelist():
            new.writestr(member, packed if member == name else old.read(member))
    content = bytearray(out.getvalue())
    for mark, method, size in ((b"PK\x03\x04", 8, 22), (b"PK\x01\x02", 10, 24)):
        place = -1
        while (place := content.find(mark, place + 1)) >= 0:
            start = place + (30 if mark == b"PK\x03\x04" else 46)
            if content[start : start + len(name)] == name.encode():
                struct.pack_into("<H", content, place + method, zipfile.ZIP_DEFLATED)
                struct.pack_into("<I", content, place + size, int(rng.choice([GROWN_BYTES - BLOCK_BYTES, len(packed)])))
    return bytes(content)


def zip_paths(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    """Members that would be written elsewhere, were they unpacked."""
    out = io.BytesIO(base)
    with zipfile.ZipFile(out, "a") as archive:
        for name in ("../outside", canary, "/tmp/absolute", "a/../../b", "C:\\x", "model.weights.h5/../x"):
            archive.writestr(name, "x")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return out.getvalue()


def zip_many(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    out = io.BytesIO(base)
    with zipfile.ZipFile(out, "a") as archive:
        for number in range(3000):
            archive.writestr(f"more/{number}", b"")
    return out.getvalue()


def zip_methods(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    method = [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED][int(rng.integers(3))]
    return _with_member(base, "", bytes, compress_type=method)


def zip_twice(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    """A second, empty or odd member under the name of the first."""
    names = zipfile.ZipFile(io.BytesIO(base)).namelist()
    out = io.BytesIO(base)
    with zipfile.ZipFile(out, "a") as archive:
        name = names[int(rng.integers(len(names)))]
        archive.NameToInfo.pop(name)  # no warning of it
        archive.writestr(name, [b"", b"x", base[:2000]][int(rng.integers(3))])
    return out.getvalue()


def keras_config(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    return _with_member(base, "config.json", lambda _: _json_trick(rng).encode())


def keras_config_damaged(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    return _with_member(base, "config.json", lambda one: DAMAGES[int(rng.integers(4))](one, rng))


def keras_h5(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    make = H5[int(rng.integers(len(H5)))]
    return _with_member(base, "model.weights.h5", lambda one: make(one, rng, canary))


# Pickles


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _traps(canary: str) -> dict[str, bytes]:
    """Pickles without head and stop, each of which makes `canary` where Python's own pickle reads it, or costs much."""
    command = _text(f"touch {canary}")
    system = os.system.__module__
    stacked = b"\x8c" + bytes([len(system)]) + system.encode() + b"\x8c\x06system\x93"
    opened = _text(canary) + _text("w")
    bomb = b"]q\x00(K\x01K\x02e" + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(60))
    tuples = b"K\x01K\x02\x86q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    return {
        "reduce": _global(system, "system") + command + b"\x85R",
        "stack_global": stacked + command + b"\x85R",
        "instance": b"(" + command + f"i{system}\nsystem\n".encode(),
        "object": b"(" + _global(system, "system") + command + b"o",
        "new_object": _global("subprocess", "Popen") + b"(" + _text("touch") + _text(canary) + b"l\x85\x81",
        "eval": _global("builtins", "eval") + _text(f"open({canary!r}, 'w')") + b"\x85R",
        "getattr": _global("builtins", "getattr")
        + _global("os", "path")
        + _text("join")
        + b"\x86R"
        + opened
        + b"\x86R",
        "open": _global("io", "open") + opened + b"\x86R",
        "build": _global("torch._utils", "_rebuild_tensor_v2")
        + b"}"
        + _text("call")
        + _global(system, "system")
        + b"sb"
        + command
        + b"\x85R",
        "build_class": _global("collections", "OrderedDict")
        + b")R}"
        + _text("__class__")
        + _global(system, "system")
        + b"sb",
        "setstate": _global("functools", "partial")
        + _global(system, "system")
        + b"\x85R("
        + _global(system, "system")
        + command
        + b"\x85}Ntb)R",
        "import": _global("importlib", "import_module") + _text("antigravity") + b"\x85R",
        "load": _global("torch", "load") + _text(canary) + b"\x85R",
        "dunder": _global("jaxviz.files", "os.system") + command + b"\x85R",
        "lists": bomb,
        "tuple_key": b"}" + tuples + b"K\x01s",
        "tuple_set": b"\x8f(" + tuples + b"\x90",
        "frozen": b"(" + tuples + b"\x91",
        "ordered": _global("collections", "OrderedDict") + b"]" + tuples + b"K\x01\x86a\x85R",
        "tuple_shape": _global("torch._utils", "_rebuild_tensor_v2") + b"(NK\x00" + tuples + tuples + b"tR",
        "persistent": tuples + b"Q",
        "memo": b"Nr\xff\xff\xff\x7f",
        "bytearray": b"\x96" + struct.pack("<Q", 2**40),
        "frame": b"\x95" + struct.pack("<Q", 2**62),
        "long": b"\x8b\xff\xff\xff\x7f",
        "int": b"I" + b"9" * 5000 + b"\n",
        "marks": b"(" * 500_000,
        "steps": b"N0" * 1_500_000,
        "deep": b"]" * 100_000 + b"a" * 99_999,
        "deep_dicts": b"}" * 1 + b"".join(_text("a") + b"}" for _ in range(5000)) + b"s" * 5000,
        "shared_dicts": b"}q\x00"
        + b"".join(b"}q%c" % (i + 1) + _text("a") + b"h%cs" % i + _text("b") + b"h%cs" % i for i in range(60)),
    }


def pickle_trap(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    """A trap alone, in the weights, beside them, or in the parts that a training loop adds."""
    traps = _traps(canary)
    trap = traps[sorted(traps)[int(rng.integers(len(traps)))]]
    inside = [b"%s", b"}" + _text("state_dict") + b"%ss", b"}" + _text("hyper_parameters") + b"%ss"]
    inside += [b"}" + _text("_fc.bias") + b"%ss", b"]%sa", b"}" + _text("callbacks") + b"}" + _text("x") + b"%sss"]
    body = b"\x80\x04" + inside[int(rng.integers(len(inside)))].replace(b"%s", trap) + b"."
    if base[:2] == b"PK":
        names = zipfile.ZipFile(io.BytesIO(base)).namelist()
        return _with_member(base, next(name for name in names if name.endswith("data.pkl")), lambda _: body)
    if rng.random() < 0.3:
        return body
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    return head + body + pickle.dumps([], 2)


def pickle_spliced(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    """The real checkpoint, a trap put in at some opcode."""
    traps = _traps(canary)
    trap = traps[sorted(traps)[int(rng.integers(len(traps)))]] + b"0"

    def put_in(content: bytes) -> bytes:
        places = [place for place in range(len(content) - 1) if content[place : place + 1] in b"q)N\x88\x89"]
        place = places[int(rng.integers(min(len(places), 4000)))]
        return content[:place] + trap + content[place:]

    if base[:2] != b"PK":
        return put_in(base)
    names = zipfile.ZipFile(io.BytesIO(base)).namelist()
    return _with_member(base, next(name for name in names if name.endswith("data.pkl")), put_in)


def storage_claims(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    """Tensors and storages that claim more than there is."""
    huge = struct.pack("<i", 2**31 - 1)

    def claim(content: bytes) -> bytes:
        places = [place for place in range(len(content) - 3) if content[place : place + 1] in (b"K", b"M", b"J")]
        place = places[int(rng.integers(len(places)))]
        width = {b"K": 2, b"M": 3, b"J": 5}[content[place : place + 1]]
        return content[:place] + b"J" + huge + content[place + width :]

    if base[:2] != b"PK":
        return claim(base[:20_000]) + base[20_000:]
    names = zipfile.ZipFile(io.BytesIO(base)).namelist()
    return _with_member(base, next(name for name in names if name.endswith("data.pkl")), claim)


# safetensors


def header_length(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    length = int(rng.choice(np.array([0, 1, 2**27, 2**40, 2**63 - 1], np.uint64)))
    return length.to_bytes(8, "little") + base[8:]


def header_changed(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    """Offsets that overlap, other types and shapes, other metadata; the length of the header stays right."""
    (length,) = struct.unpack_from("<Q", base)
    header, rest = base[8 : 8 + length], base[8 + length :]
    changes = [
        (b"[0,", b"[8,"),
        (b"F32", b"F64"),
        (b"F32", b"BF16"),
        (b"F32", b"F8_E4M3"),
        (b'"shape":[', b'"shape":[9,'),
    ]
    changes += [(b'"shape":[', b'"shape":[99999999999,'), (b'\\"scale\\": [', b'\\"scale\\": [1e999,'), (b"0.1", b"{}")]
    changes += [(b"preprocess", b"left_out"), (b"efficientnet", b"e" * 99), (b'"dtype"', b'"' + b"x" * 9 + b'"')]
    changes += [(b"\\\\\\", b"[" * 20_000), (b"stem_conv", b"stem_bn"), (b'"data_offsets":[', b'"data_offsets":[-')]
    old, new = changes[int(rng.integers(len(changes)))]
    header = header.replace(old, new, int(rng.integers(1, 4)))
    return struct.pack("<Q", len(header)) + header + rest


def header_deep(base: bytes, rng: np.random.Generator, canary: str) -> bytes:
    header = b'{"a":' * int(rng.choice([100, 100_000]))
    return struct.pack("<Q", len(header)) + header + base[8:]


H5 = (
    *(h5_links, h5_out_of_the_file, h5_huge, h5_bomb, h5_huge_chunk, h5_odd_type, h5_deep, h5_empty_or_named),
    h5_attributes,
)
ZIPS = (zip_claims, zip_bomb, zip_paths, zip_many, zip_methods, zip_twice)
PICKLES = (pickle_trap, pickle_trap, pickle_trap, pickle_spliced, storage_claims)
HOSTILE: dict[str, tuple[Callable[[bytes, np.random.Generator, str], bytes], ...]] = {
    "legacy.h5": H5,
    "numbered.weights.h5": H5,
    "whole.keras": (*ZIPS, keras_config, keras_config, keras_config_damaged, keras_h5, keras_h5),
    "legacy.pth": PICKLES,
    "zip.pth": (*ZIPS, *PICKLES),
    "own.safetensors": (header_length, header_changed, header_changed, header_changed, header_deep),
}

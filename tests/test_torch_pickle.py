import builtins
import collections
import copyreg
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from lipsound2.errors import CheckpointError
from lipsound2.runtime.pickle_data import Global, StandIn
from lipsound2.runtime.torch_pickle import module_state, read_checkpoint


@pytest.fixture(params=["zip", "legacy"])
def save(request, tmp_path):
    def save(data: object, name: str = "saved.pt") -> Path:
        path = tmp_path / name
        torch.save(data, path, _use_new_zipfile_serialization=request.param == "zip")
        return path

    return save


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool],
)
def test_tensors_of_every_type_come_back(save, dtype):
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    assert torch.equal(read_checkpoint(save({"a": tensor}))["a"], tensor)


def test_views_empty_tensors_and_shared_storage_come_back(save):
    base = torch.arange(24.0).reshape(4, 6)
    data = {"turned": base.T, "part": base[1:3, ::2], "empty": torch.empty(0, 3), "number": torch.tensor(3.5)}
    found = read_checkpoint(save(data))
    assert all(torch.equal(found[name], tensor) for name, tensor in data.items())
    assert found["turned"].untyped_storage().data_ptr() == found["part"].untyped_storage().data_ptr()


def test_plain_data_comes_back(save):
    data = {
        "numbers": [1, -300, 2**40, 1.5, True, None],
        "nested": {"tuple": (1, (2, 3), "vier", ()), "list": [[], {}], 5: b"bytes"},
        "sets": [{1, 2}, frozenset({3})],
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "size": torch.Size([2, 3]),
    }
    found = read_checkpoint(save(data))
    assert found == data
    assert list(found["ordered"]) == ["b", "a"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 3, 3)), nn.BatchNorm1d(3), nn.LSTM(3, 4))


def test_a_state_dict_equals_what_torch_reads(save):
    path = save(network().state_dict())
    expected = torch.load(path, weights_only=True)
    found = read_checkpoint(path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


class Glow(nn.Module):
    """A module of a class that the reader does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.weight_norm(nn.Conv1d(2, 3, 3))
        self.norm = nn.BatchNorm1d(3)
        self.none = None
        self.early = [1, 2]


@pytest.mark.filterwarnings("ignore")
def test_a_whole_module_becomes_a_stand_in_with_the_same_weights(save):
    model = Glow()
    found = read_checkpoint(save({"model": model, "iteration": 7, "activation": nn.functional.relu}))
    assert found["iteration"] == 7
    assert str(found["activation"]) == "torch.nn.functional.relu"
    assert isinstance(found["model"], StandIn)
    assert found["model"].kind.endswith("Glow")
    assert found["model"].state["early"] == [1, 2]
    weights = module_state(found["model"])
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


def test_only_modules_have_weights():
    for other in (StandIn("some.Thing"), {"a": 1}):
        with pytest.raises(CheckpointError, match="a torch module was expected"):
            module_state(other)


def test_an_optimizers_state_comes_back(save):
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    sum(p.square().sum() for p in model.parameters()).backward()
    optimizer.step()
    found = read_checkpoint(save(optimizer.state_dict()))
    assert torch.equal(found["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


class Calling:
    """Asks for a call when it is unpickled."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "system"), (builtins.eval, "eval"), (builtins.exec, "exec"), (builtins.getattr, "getattr")],
)
def test_nothing_that_a_malicious_file_asks_for_is_run(save, tmp_path, function, name):
    victim = tmp_path / "victim"
    code = f"open({str(victim)!r}, 'w')"
    arguments = (f"touch {victim}",) if function is os.system else (code,)
    path = save({"a": torch.ones(2), "evil": Calling(function, *arguments)})
    with pytest.raises(CheckpointError, match=f"asks to call .*{name}") as caught:
        read_checkpoint(path)
    assert "nothing in it was run" in caught.value.hint
    assert not victim.exists()


class Importing:
    """An object of a class whose import would be noticed."""


def test_no_module_is_imported(save, tmp_path, monkeypatch):
    module = types.ModuleType("noticed_module")
    module.Importing = type("Importing", (), {"__module__": "noticed_module"})
    monkeypatch.setitem(sys.modules, "noticed_module", module)
    thing = module.Importing()
    thing.colour = "red"
    path = save([thing, module.Importing])
    monkeypatch.delitem(sys.modules, "noticed_module")
    (tmp_path / "noticed_module.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    thing, kind = read_checkpoint(path)
    assert (thing.kind, thing.state) == ("noticed_module.Importing", {"colour": "red"})
    assert kind == Global("noticed_module", "Importing")
    assert "noticed_module" not in sys.modules


def raw(tmp_path: Path, pickled: bytes, **files: bytes) -> Path:
    """Write a checkpoint with a pickle made by hand."""
    path = tmp_path / "raw.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in files.items():
            archive.writestr(f"archive/data/{name[1:]}", data)
    return path


@pytest.mark.parametrize(
    "pickled",
    [
        b"(S'touch x'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch x'\no.",  # OBJ
        b"\x82\x01.",  # EXT1
        b"cos\nsystem\n}S'a'\nS'b'\nsb.",  # BUILD: setting attributes of a function
        b"\x80\x02ctorch\nSize\n)\x81)R.",  # calling an object
        b"]S'a'\nS'b'\ns.",  # items of a list
        b"Pid\n.",  # PERSID
        b"S'a'\n)\x81.",  # NEWOBJ of a string
        b"ccollections\nOrderedDict\nI5\n\x85R.",  # an allowed call with senseless arguments
        b"}]I1\ns.",  # an unhashable key
        b".",
        b"0.",
        b"g9\n.",
        b"I1",
        b"\xff",
        b"",
    ],
)
def test_pickles_made_by_hand_are_refused(tmp_path, pickled):
    with pytest.raises(CheckpointError):
        read_checkpoint(raw(tmp_path, pickled))


def storage(elements: int, offset: int, size: tuple, stride: tuple) -> bytes:
    """Pickle a float tensor with any numbers in it."""

    class Rebuild:
        def __reduce__(self) -> tuple:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, {})

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", elements) if isinstance(thing, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(Rebuild())
    return buffer.getvalue()


def test_a_tensor_never_reaches_beyond_its_storage(tmp_path):
    data = struct.pack("<4f", 1, 2, 3, 4)
    good = read_checkpoint(raw(tmp_path, storage(4, 0, (2, 2), (2, 1)), _0=data))
    assert good.tolist() == [[1, 2], [3, 4]]
    for numbers in [(4, 1, (2, 2), (2, 1)), (4, 0, (3, 2), (2, 1)), (4, -1, (2,), (1,)), (4, 3, (2,), (-1,))]:
        with pytest.raises(CheckpointError, match="does not fit"):
            read_checkpoint(raw(tmp_path, storage(*numbers), _0=data))
    with pytest.raises(CheckpointError, match="has 16 bytes"):
        read_checkpoint(raw(tmp_path, storage(2**40, 0, (2,), (1,)), _0=data))


def test_damaged_and_other_files_are_refused(tmp_path, save):
    path = save({"a": torch.ones(1000)})
    whole = path.read_bytes()
    for length in (0, 3, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
    with pytest.raises(CheckpointError, match="no such file"):
        read_checkpoint(tmp_path / "none.pt")
    path.write_text("no checkpoint")
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_other_zip_files_are_refused(tmp_path):
    path = tmp_path / "other.zip"
    cases = {"it is a zip file without": ("a/b.txt", 0), "TorchScript": ("a/constants.pkl", 0)}
    cases["compressed"] = ("a/data.pkl", zipfile.ZIP_DEFLATED)
    for message, (name, compression) in cases.items():
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr(name, b"N." * 100)
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(path)


def test_a_storage_larger_than_the_file_is_not_reserved(tmp_path):
    path = tmp_path / "large.pt"
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in head) + storage(2**45, 0, (2,), (1,)))
    with pytest.raises(CheckpointError, match="larger than the file"):
        read_checkpoint(path)


def test_objects_pickled_the_old_way_are_recorded(tmp_path):
    class Old:
        def __reduce__(self) -> tuple:
            return copyreg._reconstructor, (Importing, object, None), {"a": 1}

    found = read_checkpoint(raw(tmp_path, pickle.dumps(Old(), 2)))
    assert found.kind.endswith("Importing")
    assert found.state == {"a": 1}


def test_modules_within_themselves_are_refused():
    empty: dict = {"_parameters": {}, "_buffers": {}}
    loop = StandIn("a.Loop", state=empty | {"_modules": {}})
    loop.state["_modules"]["inner"] = loop
    twice = StandIn("a.Leaf", state=empty | {"_modules": {}})
    for _ in range(40):
        twice = StandIn("a.Twice", state=empty | {"_modules": {"left": twice, "right": twice}})
    for module in (loop, twice):
        with pytest.raises(CheckpointError, match="no end"):
            module_state(module)
    with pytest.raises(CheckpointError, match="a torch module was expected"):
        module_state(StandIn("a.Odd", state=empty | {"_modules": 3}))


def test_a_tensor_does_not_repeat_its_storage_without_end(tmp_path):
    with pytest.raises(CheckpointError, match="repeats a storage of 4 numbers"):
        read_checkpoint(raw(tmp_path, storage(4, 0, (10**6, 10**6), (0, 0)), _0=bytes(16)))

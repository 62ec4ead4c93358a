"""A `.nemo` archive of NVIDIA's NeMo with a Jasper or QuartzNet -> a recogniser's folder.

NeMo is not needed and nothing in the archive is run: the YAML is read as plain data, the weights by
`torch_pickle`. Other models of NeMo (Citrinet, Conformer, transducers, word pieces) are refused.
"""

import reprlib
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from lipsound2.audio import mel_basis
from lipsound2.errors import CheckpointError, guard
from lipsound2.recognizer.config import BlockConfig, FeatureConfig, JasperConfig
from lipsound2.recognizer.jasper import Jasper
from lipsound2.recognizer.transcriber import save_recognizer
from lipsound2.runtime.foreign import look
from lipsound2.runtime.torch_pickle import read_checkpoint
from lipsound2.runtime.weights import rebuild

CONFIG_MEMBER, WEIGHTS_MEMBER = "model_config.yaml", "model_weights.ckpt"

EXPANSION, SMALL = 20, 2**24
"""How many times an archive's bytes a file in it may have, unless it is small; weights hardly compress."""

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
KEYS = {
    # theirs: (ours, names)
    "encoder.encoder.{block}.mconv.{conv}.conv": ("blocks.{block}.steps.{step}.convs.{part}.conv", ("weight",)),
    "encoder.encoder.{block}.mconv.{norm}": ("blocks.{block}.steps.{step}.norm", NORM),
    "encoder.encoder.{block}.res.{pane}.0.conv": ("blocks.{block}.residuals.{pane}.convs.0.conv", ("weight",)),
    "encoder.encoder.{block}.res.{pane}.1": ("blocks.{block}.residuals.{pane}.norm", NORM),
    "decoder.decoder_layers.0": ("output", ("weight", "bias")),
}
"""NeMo's layers, ours, and the tensors of both.

Each sub-block of NeMo is a run of layers in `mconv`: the convolution (two parts if separable), its norm,
the activation and the dropout.
"""

IGNORED = ("preprocessor.", "spec_augmentation.", "loss.")
"""What an archive holds beside the network."""

FIXED: dict[str, dict[str, Any]] = {
    "preprocessor": {
        "window": "hann",
        "normalize": "per_feature",
        "frame_splicing": 1,
        "log": True,
        "log_zero_guard_type": "add",
        "mag_power": 2.0,
        "exact_pad": False,
        "mel_norm": "slaney",
    },
    "encoder": {"activation": "relu", "normalization_mode": "batch", "residual_mode": "add", "frame_splicing": 1},
    "block": {
        "groups": 1,
        "heads": -1,
        "se": False,
        "residual_mode": "add",
        "kernel_size_factor": 1.0,
        "stride_last": False,
        "future_context": -1,
    },
}
"""Settings that Jasper and QuartzNet leave at NeMo's default; other values make other networks."""


def import_nemo(archive: Path, output: Path, force: bool = False) -> Path:
    """Write the recogniser of a NeMo archive as a folder.

    Args:
        archive: A `.nemo` file.
        output: Folder of the recogniser.
        force: Whether to replace what is there.

    Raises:
        CheckpointError: It is no such archive, holds another kind of model, or `output` exists.
    """
    if output.exists() and not force:
        raise CheckpointError(f"{output} exists", "replace it with --force")
    save_recognizer(output, read_nemo(archive))
    return output


def read_nemo(archive: Path) -> Jasper:
    """Rebuild the network of a NeMo archive, in evaluation mode."""
    with guard(archive):
        settings, weights = _read_archive(archive)
        config = convert_config(settings)
        masked = bool(_plain(settings["encoder"]).get("conv_mask", True))
        model = rebuild(lambda: Jasper(config), convert_weights(weights, config, masked), archive)
        _check_filters(weights, config.features)
        return model


def convert_config(settings: Mapping[str, Any]) -> JasperConfig:
    """Turn NeMo's configuration into ours.

    Raises:
        CheckpointError: It is not that of a Jasper or QuartzNet.
    """
    for part, kind in (("encoder", "ConvASREncoder"), ("decoder", "ConvASRDecoder")):
        found = _target(settings, part).rsplit(".", 1)[-1]
        if found != kind:
            raise CheckpointError(
                f"a Jasper or QuartzNet with CTC was expected, the {part} is a {found or 'mystery'}",
                "other models of NeMo cannot be imported",
            )
    try:
        encoder, decoder = _plain(settings["encoder"]), _plain(settings["decoder"])
        _check_fixed("encoder", encoder)
        labels = decoder.get("vocabulary") or settings.get("labels") or []
        if not labels or any(len(label) != 1 for label in labels):
            raise CheckpointError("its labels are not single characters", "models of word pieces cannot be imported")
        return JasperConfig(
            blocks=tuple(_block(block) for block in encoder["jasper"]),
            features=_features(_plain(settings["preprocessor"])),
            alphabet="".join(labels),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, IndexError) as error:
        raise CheckpointError(f"the archive's settings cannot be read: {error!r}") from error


def convert_weights(weights: Mapping[str, Tensor], config: JasperConfig, masked: bool = True) -> dict[str, Tensor]:
    """Rename NeMo's weights.

    Args:
        weights: By NeMo's names.
        config: Of the network.
        masked: Whether NeMo's convolutions are masked, which shows in their names.

    Raises:
        CheckpointError: Some are missing, or there are others.
    """
    names = {theirs if masked else theirs.replace(".conv.", "."): ours for theirs, ours in key_map(config).items()}
    # Counters of batches, which do nothing, are missing in the oldest archives.
    missing = {name for name in names.keys() - weights.keys() if not name.endswith("num_batches_tracked")}
    unknown = {name for name in weights.keys() - names.keys() if not name.startswith(IGNORED)}
    if missing or unknown:
        example = f"{min(missing)} is missing" if missing else f"{min(unknown)} is unknown"
        raise CheckpointError(f"the archive's weights do not fit its configuration: {example}")
    none_seen = torch.tensor(0)
    return {ours: weights.get(theirs, none_seen) for theirs, ours in names.items()}


def key_map(config: JasperConfig) -> dict[str, str]:
    """Map names of weights in NeMo, with masked convolutions, to ours."""
    convolution, norm, pane_convolution, pane_norm, output = KEYS
    names: dict[str, str] = {}

    def add(layer: str, **places: int) -> None:
        ours, tensors = KEYS[layer]
        names.update({f"{layer}.{name}".format(**places): f"{ours}.{name}".format(**places) for name in tensors})

    dense = 0
    for block, size in enumerate(config.blocks):
        parts = 2 if size.separable else 1
        for step in range(size.repeat):
            first = step * (parts + 3)
            for part in range(parts):
                add(convolution, block=block, conv=first + part, step=step, part=part)
            add(norm, block=block, norm=first + parts, step=step)
        dense += size.residual == "dense"
        for pane in range({"none": 0, "block": 1, "dense": dense}[size.residual]):
            add(pane_convolution, block=block, pane=pane)
            add(pane_norm, block=block, pane=pane)
    add(output)
    return names


def _read_archive(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.exists():
        raise CheckpointError(f"no such file: {path}")
    try:
        with tarfile.open(path) as tar, tempfile.TemporaryDirectory() as folder:
            members = {Path(info.name).name: info for info in tar if info.isfile()}
            for name in (CONFIG_MEMBER, WEIGHTS_MEMBER):
                if name not in members:
                    raise CheckpointError(f"{path} holds no {name}", "a .nemo archive was expected")
                if members[name].size > max(most := EXPANSION * path.stat().st_size, SMALL):
                    raise CheckpointError(f"{name} in {path} expands to more than {most:,} bytes", "do not use it")
            with _member(tar, members[CONFIG_MEMBER]) as file:
                settings = yaml.safe_load(file)
            # A copy, since an archive may be compressed and weights are read here and there.
            copy = Path(folder) / WEIGHTS_MEMBER
            with _member(tar, members[WEIGHTS_MEMBER]) as file, copy.open("wb") as target:
                shutil.copyfileobj(file, target)
            weights = read_checkpoint(copy, path / WEIGHTS_MEMBER)
    except (tarfile.TarError, yaml.YAMLError, EOFError, OSError, RecursionError) as error:
        found = look(path)
        raise CheckpointError(f"{path} {found.what}; it is not a whole .nemo archive: {error}", found.hint) from error
    if not isinstance(settings, dict) or not isinstance(weights, dict):
        raise CheckpointError(f"{path} is not a .nemo archive of weights and their settings")
    return settings, weights


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Any:
    file = tar.extractfile(info)
    assert file is not None, "only regular files are asked for"
    return file


def _plain(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part's settings, which early versions of NeMo nest one level deeper."""
    return dict(part.get("params", part))


def _target(settings: Mapping[str, Any], part: str) -> str:
    found = settings.get(part)
    return str(found.get("_target_") or found.get("cls") or "") if isinstance(found, dict) else ""


def _check_fixed(part: str, found: Mapping[str, Any]) -> None:
    for name, value in FIXED[part].items():
        if found.get(name, value) != value:
            raise CheckpointError(
                f"the {part}'s {name} is {reprlib.repr(found[name])}, {value!r} was expected",
                "only Jasper and QuartzNet can be imported",
            )


def _block(found: Mapping[str, Any]) -> BlockConfig:
    _check_fixed("block", found)
    residual = "dense" if found.get("residual_dense") else "block"
    return BlockConfig(
        filters=found["filters"],
        kernel=_single(found["kernel"]),
        repeat=found["repeat"],
        stride=_single(found["stride"]),
        dilation=_single(found["dilation"]),
        dropout=float(found["dropout"]),
        residual=residual if found.get("residual", True) else "none",
        separable=found.get("separable", False),
    )


def _features(found: Mapping[str, Any]) -> FeatureConfig:
    _check_fixed("preprocessor", found)
    rate = int(found.get("sample_rate", 16_000))
    return FeatureConfig(
        sample_rate=rate,
        n_fft=found.get("n_fft") or 512,
        win_length=round(found.get("window_size", 0.02) * rate),
        hop_length=round(found.get("window_stride", 0.01) * rate),
        n_mels=found.get("features", 64),
        f_min=float(found.get("lowfreq", 0)),
        f_max=float(found.get("highfreq") or rate / 2),
        preemphasis=found.get("preemph", 0.97) or 0.0,
        dither=found.get("dither", 1e-5),
        guard=float(found.get("log_zero_guard_value", 2**-24)),
    )


def _single(value: Any) -> int:
    return int(value[0] if isinstance(value, list) else value)


def _check_filters(weights: Mapping[str, Tensor], config: FeatureConfig) -> None:
    """See that the archive's mel filters, if it holds them, are those of its settings."""
    found = weights.get("preprocessor.featurizer.fb")
    if found is None:
        return
    wanted = mel_basis(config.filters())
    if found.squeeze(0).shape != wanted.shape or not torch.allclose(found.squeeze(0).float(), wanted, atol=1e-4):
        raise CheckpointError("the archive's mel filters are not those of its settings")

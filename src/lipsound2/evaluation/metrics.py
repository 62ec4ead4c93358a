"""Reference and generated audio -> figures; each metric says its unit, rate, mode and the package that computes it.

A metric that cannot be computed raises `UnmeasurableError` with the reason, which is recorded and counted.
"""

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft

from lipsound2.errors import ConfigError
from lipsound2.evaluation.sound import RATE, Sound, find_lag

SECTIONS = {
    "main": "Compared with the reference audio",
    "detail": "In detail",
    "alone": "Judged without a reference",
    "words": "Words recognised",
    "time": "Length and lag",
}
"""Tables of a report with their titles."""

WORD_METRICS = ("wer_", "cer_")
"""How names of error rates begin; the recogniser follows."""

LAG_SUFFIX = "_lag"
"""Suffix of metrics after lag compensation."""

MAX_PESQ_SECONDS = 60.0
"""P.862 is made for clips of 8 to 20 s; the package can crash on those of several minutes."""

MIN_VOICE_SECONDS = 0.5
"""Shortest clip of which a speaker embedding is computed."""


class UnmeasurableError(Exception):
    """A metric has no value for a clip; the message says why."""


@dataclass(frozen=True)
class Metric:
    """What a figure means.

    Attributes:
        name: As in `--metric` and in the files of a report.
        label: As in its tables.
        section: Table in which it is shown, see `SECTIONS`.
        setting: Rate, mode and definition.
        package: The distribution that computes it.
        unit: Such as `dB`; none for plain numbers.
        digits: Decimals shown.
        rises: Whether higher is better; None if neither.
        weight: Weights of clips in the mean: none, `words` or `characters`.
    """

    name: str
    label: str
    section: str
    setting: str
    package: str
    unit: str = ""
    digits: int = 3
    rises: bool | None = True
    weight: str = ""

    def compensated(self) -> "Metric":
        """Return the same metric after lag compensation."""
        setting = f"{self.setting}; after taking out the lag"
        label = f"{self.label} without lag"
        return replace(self, name=self.name + LAG_SUFFIX, label=label, section="time", setting=setting)


@dataclass(frozen=True)
class Meter:
    """One computation and the metrics it returns.

    Attributes:
        metrics: What it returns, in this order.
        measure: Computes them of the reference and the generated audio; a text is the reason why one is missing.
        timed: Whether a time shift changes them, so that they are also computed after lag compensation.
        compares: Whether it needs reference speech, to whose length the generated audio is then cut or padded.
        refers: Whether it uses the reference audio at all.
        module: What must be importable, and is not part of the package's own dependencies.
    """

    metrics: tuple[Metric, ...]
    measure: Callable[[Sound, Sound], tuple[float | str, ...]]
    timed: bool = False
    compares: bool = True
    refers: bool = True
    module: str | None = None

    @property
    def installed(self) -> bool:
        """Return whether the package that it needs is installed."""
        return self.module is None or importlib.util.find_spec(self.module) is not None

    def all_metrics(self) -> tuple[Metric, ...]:
        """Return the metrics, also those after lag compensation."""
        return self.metrics + (tuple(metric.compensated() for metric in self.metrics) if self.timed else ())


def length(true: Sound, made: Sound) -> tuple[float]:
    """Compute the ratio of lengths."""
    if not true.seconds:
        raise UnmeasurableError("the reference audio has no length")
    return (made.seconds / true.seconds,)


def lag(true: Sound, made: Sound) -> tuple[float]:
    """Compute the delay of the generated audio in ms."""
    if made.silent:
        raise UnmeasurableError("the generated audio is silent")
    return (find_lag(true, made) * 1000 / RATE,)


def intelligibility(true: Sound, made: Sound) -> tuple[float, float]:
    """Compute STOI (Taal et al. 2011) and ESTOI (Jensen & Taal 2016)."""
    from pystoi import stoi

    if true.seconds < 0.45:
        raise UnmeasurableError("shorter than the 0.4 s that STOI looks at at once")
    # ESTOI adds noise of 1e-16 from NumPy's global generator.
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(0)  # noqa: NPY002
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            return tuple(float(stoi(true.wave, made.wave, RATE, extended=extended)) for extended in (False, True))  # type: ignore[return-value]
    except RuntimeWarning as warning:
        raise UnmeasurableError("less than the 0.4 s of speech that STOI looks at at once") from warning
    finally:
        np.random.set_state(state)  # noqa: NPY002


def quality(rate: int, mode: str) -> Callable[[Sound, Sound], tuple[float]]:
    """Return a function that computes PESQ (ITU-T P.862, wide band P.862.2) at a rate and in a mode."""

    def measure(true: Sound, made: Sound) -> tuple[float]:
        import pesq

        if made.silent:
            raise UnmeasurableError("the generated audio is silent")
        if true.seconds > MAX_PESQ_SECONDS:
            raise UnmeasurableError(f"longer than {MAX_PESQ_SECONDS:g} s")
        waves = (true.at_8k, made.at_8k) if rate == 8000 else (true.wave, made.wave)
        try:
            return (float(pesq.pesq(rate, *waves, mode)),)
        except pesq.PesqError as error:
            reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
            raise UnmeasurableError(f"PESQ: {reason}") from error

    return measure


def spectrum(true: Sound, made: Sound) -> tuple[float, float, float]:
    """Compute mel-cepstral distortion in dB, L1 of log-mel and spectral convergence.

    The cepstrum is that for which log-mel = c0 + sum of ck cos(...), so that the distortion (Kubichek 1993)
    is a root mean square difference of smoothed mel spectra in dB. Nothing is warped in time.
    """
    _need(true, 1024 / RATE)
    first, second = (scipy.fft.dct(sound.mel, axis=0)[1:14] / len(sound.mel) for sound in (true, made))
    distortion = 10 / np.log(10) * np.sqrt(2 * np.square(first - second).sum(axis=0)).mean()
    l1 = np.abs(true.mel - made.mel).mean()
    convergence = np.linalg.norm(true.magnitude - made.magnitude) / np.linalg.norm(true.magnitude)
    return float(distortion), float(l1), float(convergence)


def pitch(true: Sound, made: Sound) -> tuple[float | str, float]:
    """Compute the RMSE of F0 in Hz where both are voiced, and the % of frames where only one is."""
    if made.silent:
        raise UnmeasurableError("the generated audio is silent")
    _need(true, 1024 / RATE)
    first, second = true.pitch, made.pitch
    both = first.voiced & second.voiced
    voicing = 100 * float((first.voiced != second.voiced).mean())
    if not both.any():
        return "no frame is voiced in both", voicing
    return float(np.sqrt(np.square(first.hertz[both] - second.hertz[both]).mean())), voicing


def speaker(true: Sound, made: Sound) -> tuple[float]:
    """Compute the cosine similarity of speaker embeddings."""
    from lipsound2.voice.encoder import embed

    if made.silent:
        raise UnmeasurableError("the generated audio is silent")
    _need(true, MIN_VOICE_SECONDS)
    return (float(embed(true.wave) @ embed(made.wave)),)


def naturalness(_: Sound, made: Sound) -> tuple[float, float, float, float]:
    """Compute the four opinion scores of DNSMOS P.835 and P.808 (Reddy et al. 2021, 2022)."""
    if made.silent:
        raise UnmeasurableError("the generated audio is silent")
    found = _dnsmos()(np.clip(made.wave, -1, 1), RATE, False)
    overall, signal, background, p808 = (float(found[f"{key}_mos"]) for key in ("ovrl", "sig", "bak", "p808"))
    return overall, signal, background, p808


def _need(sound: Sound, seconds: float) -> None:
    if sound.seconds < seconds:
        raise UnmeasurableError(f"shorter than {seconds:g} s")


@lru_cache(maxsize=1)
def _dnsmos() -> Any:
    """Load the predictor with one thread, since clips are measured in parallel."""
    import onnxruntime
    from speechmos import dnsmos

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    folder = Path(dnsmos.__file__).parent / "dnsmos_models"
    files = [str(folder / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    predictor = dnsmos.DNSMOS(*files)
    predictor.onnx_sess, predictor.p808_onnx_sess = (onnxruntime.InferenceSession(file, options) for file in files)
    return predictor


_LENGTH = "generated / reference, before the generated audio is cut or padded to the reference's length"
_LAG = "best match of the envelopes within 100 ms, in steps of 1 ms; positive: late"
_PYIN = "16 kHz, probabilistic YIN 65-500 Hz, every 20 ms; voiced from -25 dB of the loudest frame on"
_DNSMOS = "16 kHz, no reference; clips below 9 s are repeated"

METERS: tuple[Meter, ...] = (
    Meter(
        (
            Metric("stoi", "STOI", "main", "16 kHz in, 10 kHz inside", "pystoi"),
            Metric("estoi", "ESTOI", "main", "16 kHz in, 10 kHz inside, extended", "pystoi"),
        ),
        intelligibility,
        timed=True,
    ),
    *(
        Meter(
            (Metric(f"pesq_{mode}_{rate // 1000}k", f"PESQ {mode} {rate // 1000} kHz", "main", setting, "pesq"),),
            quality(rate, mode),
            module="pesq",
        )
        for rate, mode, setting in (
            (16_000, "wb", "wide band (P.862.2) at 16 kHz, MOS-LQO; aligns the two by itself"),
            (16_000, "nb", "narrow band (P.862) at 16 kHz, MOS-LQO; aligns the two by itself"),
            (8000, "nb", "narrow band (P.862) after resampling to 8 kHz, MOS-LQO; aligns the two by itself"),
        )
    ),
    Meter(
        (
            Metric("mcd", "MCD", "detail", "16 kHz, c1-c13 of 80 log-mel bins, no warping", "scipy", "dB", 2, False),
            Metric("mel_l1", "mel L1", "detail", "16 kHz, natural log, 80 bins", "lipsound2", "", 3, False),
            Metric(
                "spectral_convergence",
                "spectral convergence",
                "detail",
                "16 kHz, |STFT| of 1024/640/160, relative Frobenius norm",
                "librosa",
                rises=False,
            ),
        ),
        spectrum,
        timed=True,
    ),
    Meter(
        (
            Metric("f0_rmse", "F0 error", "detail", f"{_PYIN}, where both are voiced", "librosa", "Hz", 1, False),
            Metric("voicing_error", "voicing error", "detail", f"{_PYIN}", "librosa", "%", 1, False),
        ),
        pitch,
        timed=True,
    ),
    Meter(
        (
            Metric(
                "speaker_similarity",
                "speaker similarity",
                "detail",
                "16 kHz, cosine by Resemblyzer's encoder without its voice activity detection",
                "lipsound2",
            ),
        ),
        speaker,
    ),
    Meter(
        (
            Metric("dnsmos_ovrl", "DNSMOS overall", "alone", f"P.835, {_DNSMOS}", "speechmos", digits=2),
            Metric("dnsmos_sig", "DNSMOS signal", "alone", f"P.835, {_DNSMOS}", "speechmos", digits=2),
            Metric("dnsmos_bak", "DNSMOS background", "alone", f"P.835, {_DNSMOS}", "speechmos", digits=2),
            Metric("dnsmos_p808", "DNSMOS P.808", "alone", f"P.808, {_DNSMOS}", "speechmos", digits=2),
        ),
        naturalness,
        compares=False,
        refers=False,
        module="speechmos",
    ),
    Meter((Metric("length_ratio", "length ratio", "time", _LENGTH, "lipsound2", rises=None),), length, compares=False),
    Meter((Metric("lag_ms", "lag", "time", _LAG, "scipy", "ms", 1, None),), lag),
)
"""All metrics that need no recogniser."""


def choose_meters(names: Sequence[str]) -> tuple[Meter, ...]:
    """Return the meters of some metrics, or all if none is named; one computation may give several metrics.

    Error rates are not measured by meters but by recognisers.

    Raises:
        ConfigError: There is no such metric.
    """
    known = {metric.name for meter in METERS for metric in meter.metrics}
    unknown = sorted(name for name in set(names) - known if not name.startswith(WORD_METRICS))
    if unknown:
        raise ConfigError(
            f"no metric {unknown[0]!r}", f"known: {', '.join(sorted(known))}, and wer_ or cer_ with a recogniser"
        )
    return tuple(meter for meter in METERS if not names or {metric.name for metric in meter.metrics} & set(names))

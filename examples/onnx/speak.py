"""Views of a face -> audio and words, on onnxruntime and NumPy alone.

    lipsound2 export grid-s1 -o exported/
    python examples/onnx/speak.py exported/ examples/onnx/bgal7s.npy out.wav

The views are the model's window of each frame, uint8 (channels, frames, size, size), as views.py makes them.
"""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime

Array = np.ndarray

folder, source, target = map(Path, sys.argv[1:])
about = json.loads((folder / "export.json").read_text())
audio, short = about["model"]["audio"], about["derived"]["griffin_lim"]


def graph(name: str, **inputs: Array) -> dict[str, Array]:
    """Run a graph once; returns its outputs by name."""
    session = sessions.setdefault(name, onnxruntime.InferenceSession(folder / f"{name}.onnx"))
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, inputs), strict=True))


def decode(memory: Array, keys: Array, steps: int) -> Array:
    """Run the decoder's steps."""
    ports = {port["name"]: port["shape"][1] for port in about["graphs"]["decoder"]["inputs"][3:]}
    sizes = {name: memory.shape[1] if size == "frames" else size for name, size in ports.items()}
    state = {name: np.zeros((1, size), np.float32) for name, size in sizes.items()}
    state["weights"][:, 0] = state["cumulative"][:, 0] = 1
    mels = [np.zeros((1, audio["n_mels"], 1), np.float32)]
    for _ in range(steps):
        found = graph("decoder", previous=mels[-1][:, :, -1], memory=memory, keys=keys, **state)
        state, mels = {name: found[f"next_{name}"] for name in state}, [*mels, found["mel"]]
    return np.concatenate(mels[1:], axis=2)


def stft(samples: Array, n_fft: int, win_length: int, hop_length: int) -> Array:
    """Transform frames centred on every hop; returns (frames, bins)."""
    places = np.arange(len(samples) // hop_length + 1)[:, None] * hop_length + np.arange(n_fft)
    return np.fft.rfft(np.pad(samples, n_fft // 2)[places] * window(n_fft, win_length))


def istft(spectrum: Array, n_fft: int, win_length: int, hop_length: int) -> Array:
    """Invert `stft` with least squared error."""
    rows, total = np.fft.irfft(spectrum) * (shape := window(n_fft, win_length)), len(spectrum) * hop_length + n_fft
    added, weight = np.zeros(total), np.zeros(total)
    for i, row in enumerate(rows):
        added[i * hop_length :][:n_fft] += row
        weight[i * hop_length :][:n_fft] += shape**2
    return (added / np.maximum(weight, 1e-8))[n_fft // 2 : n_fft // 2 + (len(spectrum) - 1) * hop_length]


def window(n_fft: int, win_length: int) -> Array:
    """Return a Hann window amid zeros."""
    return np.pad(np.hanning(win_length + 1)[:-1], (n_fft - win_length) // 2)


sessions = {}
views = np.load(source)
encoded = graph("encoder", video=views[None])
rate, per = about["derived"]["mel_frames_per_video_frame"]
frames = views.shape[1] * rate // per
mel = decode(encoded["memory"], encoded["keys"], -(-frames // about["model"]["decoder"]["frames_per_step"]))
mel = graph("postnet", mel=np.ascontiguousarray(mel[..., :frames]))["after"]
magnitude = graph("magnitude", mel=mel)["magnitude"][0].T.astype(np.float64)
sizes = {name: short[name] for name in ("n_fft", "win_length", "hop_length")}
phase, before = np.exp(2j * np.pi * np.random.default_rng(0).random(magnitude.shape)), 0
for _ in range(short["iterations"]):
    rebuilt = stft(istft(magnitude * phase, **sizes), **sizes)
    phase = rebuilt + short["momentum"] / (1 + short["momentum"]) * (rebuilt - before)
    phase, before = phase / np.maximum(np.abs(phase), 1e-10), rebuilt
sound = istft(magnitude * phase, **sizes)
sound = (0.7 * sound / np.abs(sound).max()).astype(np.float32)
best = graph("recognizer", wave=sound[None])["posteriors"][0].argmax(axis=1)
letters = about["recognizer"]["alphabet"] + "_"
print("".join(letters[k] for k, last in zip(best, [-1, *best], strict=False) if k != last).replace("_", "").strip())
with wave.open(str(target), "wb") as file:
    file.setparams((1, 2, audio["sample_rate"], 0, "NONE", ""))
    file.writeframes((sound * 32767).astype("<i2").tobytes())

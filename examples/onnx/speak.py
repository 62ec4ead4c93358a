"""Views of a face, uint8 (channels, frames, size, size), -> audio and words, on onnxruntime and NumPy alone.

lipsound2 export grid-s1 -o exported/
python examples/onnx/speak.py exported/ examples/onnx/bgal7s.npy out.wav    # views.py makes such a file
"""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime

folder, views, target = Path(sys.argv[1]), np.load(sys.argv[2]), sys.argv[3]
about = json.loads((folder / "export.json").read_text())
graphs = {path.stem: onnxruntime.InferenceSession(path) for path in folder.glob("*.onnx")}
audio, short = about["model"]["audio"], about["derived"]["griffin_lim"]
n_fft, window = short["n_fft"], np.array(short["window"])
rate, per = about["derived"]["mel_frames_per_video_frame"]
frames = views.shape[1] * rate // per


def run(name: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Run a graph; return its outputs by name."""
    names = [port["name"] for port in about["graphs"][name]["outputs"]]
    return dict(zip(names, graphs[name].run(names, inputs), strict=True))


# Lips: the decoder's state is 0 at first, but for the attention, which begins at the first frame.
seen, ports = run("encoder", video=views[None]), about["graphs"]["decoder"]["inputs"][3:]
sizes = {"frames": views.shape[1]}
state = {port["name"]: np.zeros([sizes.get(n, n) for n in port["shape"]], np.float32) for port in ports}
state["weights"][:, 0] = state["cumulative"][:, 0] = 1
mels = [np.zeros((1, audio["n_mels"], 1), np.float32)]
for _ in range(-(-frames // about["model"]["decoder"]["frames_per_step"])):
    step = run("decoder", previous=mels[-1][:, :, -1], memory=seen["memory"], keys=seen["keys"], **state)
    state, mels = {name: step[f"next_{name}"] for name in state}, [*mels, step["mel"]]
mel = run("postnet", mel=np.concatenate(mels[1:], axis=2)[..., :frames])["after"]

# Griffin-Lim: phases are sought for which the sound has the magnitudes of the mel.
magnitude, momentum = run("magnitude", mel=mel)["magnitude"][0].T, short["momentum"] / (1 + short["momentum"])
places = np.arange(len(magnitude))[:, None] * short["hop_length"] + np.arange(n_fft)
weight = np.bincount(places.ravel(), np.tile(window**2, len(places)))
phase, before = np.exp(2j * np.pi * np.random.default_rng(0).random(magnitude.shape)), 0
for _ in range(short["iterations"] + 1):
    added = np.bincount(places.ravel(), (np.fft.irfft(magnitude * phase) * window).ravel())
    sound = np.pad((added / np.maximum(weight, 1e-8))[n_fft // 2 : -n_fft // 2], n_fft // 2)
    rebuilt = np.fft.rfft(sound[places] * window)
    phase, before = rebuilt + momentum * (rebuilt - before), rebuilt
    phase /= np.maximum(np.abs(phase), 1e-10)
sound = sound[n_fft // 2 : -n_fft // 2]
sound = (0.7 * sound / np.abs(sound).max()).astype(np.float32)
with wave.open(target, "wb") as file:
    file.setparams((1, 2, audio["sample_rate"], 0, "NONE", ""))
    file.writeframes((sound * 32767).astype("<i2").tobytes())
# Words: the likeliest letter of each moment, where it changes; "_" is none.
best = run("recognizer", wave=sound[None])["posteriors"][0].argmax(axis=1)
letters = about["recognizer"]["alphabet"] + "_"
print("".join(letters[k] for k, last in zip(best, [-1, *best], strict=False) if k != last).replace("_", "").strip())

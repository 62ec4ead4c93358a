"""Print how long each vocoder takes for a second of sound on this machine.

    python benchmarks/vocoder.py --seconds 3 --threads 2

A real-time factor of 0.1 means that a second of sound is made in 0.1 s. WaveGlow's weights are random,
which changes nothing about its speed. HiFi-GAN is left out where its weights are not installed.
"""

import argparse
import time
from collections.abc import Iterator

import torch

from lipsound2.audio import log_mel
from lipsound2.config import AudioConfig, audio_16k, audio_22k
from lipsound2.errors import MissingExtraError
from lipsound2.vocoder import GriffinLim, Vocoder
from lipsound2.vocoder.config import waveglow_256, waveglow_medium, waveglow_small
from lipsound2.vocoder.hifigan import load_hifigan
from lipsound2.vocoder.integers import integers_are_fast
from lipsound2.vocoder.synthesis import WaveGlowVocoder
from lipsound2.vocoder.waveglow import WaveGlow


def vocoders(device: str) -> Iterator[tuple[str, Vocoder]]:
    """Make each vocoder in turn, in half precision too where that is what it does by itself."""
    yield "Griffin-Lim, 30 iterations", GriffinLim(audio_16k())
    torch.manual_seed(0)
    sizes = (("small", waveglow_small()), ("medium", waveglow_medium()), ("256", waveglow_256()))
    for size, config in sizes:
        name = f"WaveGlow {size}"
        model = WaveGlow(config).to(device).eval()
        fast = WaveGlowVocoder(model)
        if fast.half:
            yield f"{name}, bfloat16", fast
        if integers_are_fast(torch.device(device)):
            yield f"{name}, 8-bit integers", WaveGlowVocoder(model, half=False, integers=True)
        yield f"{name}, float32", WaveGlowVocoder(model, half=False)
    try:
        gan = load_hifigan(audio_16k(), device)
    except MissingExtraError:
        return
    if gan.half:
        yield "HiFi-GAN, bfloat16", gan
    gan.half = False
    yield "HiFi-GAN, float32", gan


def mel_of_noise(audio: AudioConfig, seconds: float) -> torch.Tensor:
    """Return a log-mel of so many seconds."""
    return log_mel(0.1 * torch.randn(1, round(seconds * audio.sample_rate)), audio)[0]


def measure(vocoder: Vocoder, mel: torch.Tensor, repeats: int) -> float:
    """Return the best real-time factor of some runs, after one that does not count."""
    seconds = mel.shape[1] * vocoder.audio.hop_length / vocoder.audio.sample_rate
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        with torch.inference_mode():
            vocoder(mel).cpu()
        times.append(time.perf_counter() - start)
    return min(times[1:]) / seconds


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of sound")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    mels = {audio: mel_of_noise(audio, options.seconds).to(options.device) for audio in (audio_16k(), audio_22k())}
    print(f"{options.seconds:g} s of sound, {options.device}, {options.threads} threads, torch {torch.__version__}\n")
    print("| vocoder | rate | real-time factor |\n|---|---|---|")
    for name, vocoder in vocoders(options.device):
        factor = measure(vocoder, mels[vocoder.audio], options.repeats)
        print(f"| {name} | {vocoder.audio.sample_rate} Hz | {factor:.3f} |", flush=True)


if __name__ == "__main__":
    main()

"""A simulated corpus of GRID sentences -> how many words another program hears, and how many faces are found.

pip install pocketsphinx jiwer
lipsound2 simulate --clips 48 --speakers 16 --seed 1 -o sim/
python recipes/simulate_check.py sim/
"""

import sys
from pathlib import Path

import jiwer
import numpy as np
import pocketsphinx

from lipsound2.corpora import read_folder
from lipsound2.faces import MtcnnDetector
from lipsound2.media import read_audio, stream_frames
from lipsound2.simulate.sentences import GRID_KINDS, vocabulary

RATE = 16_000


def main(corpus: Path) -> None:
    """Print a line a clip and the sums."""
    decoder, detector = grid_decoder(), MtcnnDetector()
    said, heard, faces = [], [], []
    for clip in read_folder(corpus):
        said.append(clip.transcript or "")
        heard.append(listen(decoder, read_audio(clip.video, RATE)))
        faces += [len(detector.detect(frame.image)) for frame in stream_frames(clip.video)]
        print(f"{clip.id}: {said[-1]} | {heard[-1]}")
    without = [[" ".join(w for i, w in enumerate(text.split()) if i != 3) for text in texts] for texts in (said, heard)]
    print(f"words right: {1 - jiwer.wer(said, heard):.3f}, without letters {1 - jiwer.wer(*without):.3f}")
    print(f"pictures with exactly one face: {faces.count(1)} of {len(faces)}")


def grid_decoder() -> pocketsphinx.Decoder:
    """Make a recogniser of GRID's sentences, in which z may be said zed."""
    decoder = pocketsphinx.Decoder(samprate=RATE, loglevel="FATAL", lm=None)
    rule = " ".join(f"({'|'.join(vocabulary()[kind])})" for kind in GRID_KINDS).replace("|z)", "|z|zed)")
    decoder.add_jsgf_string("grid", f"#JSGF V1.0; grammar grid; public <sentence> = {rule};")
    decoder.activate_search("grid")
    return decoder


def listen(decoder: pocketsphinx.Decoder, wave: np.ndarray) -> str:
    """Return the words heard in a wave."""
    decoder.start_utt()
    decoder.process_raw((wave / np.abs(wave).max() * 26_000).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return found.hypstr.replace("zed", "z") if found else ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))

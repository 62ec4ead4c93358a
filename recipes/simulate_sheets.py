"""`lipsound2.simulate` -> the pictures of docs/simulate.md: speakers, visemes and the frames of a sentence.

python recipes/simulate_sheets.py
"""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from lipsound2.media import Image
from lipsound2.simulate import SimulateConfig
from lipsound2.simulate.camera import Camera, take
from lipsound2.simulate.figure import Figure, Pose
from lipsound2.simulate.lens import Lens, record
from lipsound2.simulate.mouth import Articulation
from lipsound2.simulate.shade import Light
from lipsound2.simulate.speaker import make_speaker
from lipsound2.simulate.studio import Studio
from lipsound2.simulate.visemes import CONTACTS, ORGANS, articulate
from lipsound2.simulate.voice import Timed

IMAGES = Path(__file__).parents[1] / "docs" / "images"
VISEMES = {
    "p b m": "p",
    "f v": "f",
    "th": "θ",
    "t d n": "t",
    "l": "l",
    "s z": "s",
    "sh ch": "ʃ",
    "r": "ɹ",
    "w": "w",
    "k g": "k",
    "ee": "i",
    "eh": "ɛ",
    "a (cat)": "æ",
    "ah": "ɑ",
    "aw": "ɔ",
    "oo": "u",
}


def main() -> None:
    """Draw the three pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    studio = Studio(SimulateConfig(speakers=16))
    faces = [next(islice(studio.shoot(studio.plan(number)).pictures, 24, None)) for number in range(16)]
    write("simulate-speakers.jpg", sheet(faces, columns=8, side=180))
    write("simulate-visemes.jpg", sheet(list(mouths()), columns=8, side=180))
    talking = Studio(SimulateConfig(clips=6, speakers=2, seed=293, difficulty=0.5))
    frames = [picture[20:236, 20:236] for picture in talking.shoot(talking.plan(0)).pictures]
    write("simulate-sentence.jpg", sheet(frames[6:46], columns=10, side=144))


def mouths() -> list[Image]:
    """Show the mouth in the middle of each viseme, spoken slowly between two neutral vowels."""
    speaker = make_speaker(293, 0, 320, 0.0)
    figure = Figure(speaker.identity, speaker.look, np.random.default_rng(0))
    camera, wall = Camera(size=360, share=3.0, offset=(0.0, 0.85)), np.full((360, 360, 3), 0.15, np.float32)
    pictures = []
    for caption, label in VISEMES.items():
        phones = [Timed("ə", 0.0, 0.3), Timed(label, 0.3, 0.6, stressed=True), Timed("ə", 0.6, 0.9)]
        organs = articulate(phones, np.array([0.45]), 0.9)[0]
        assert label not in "pbmfvθ" or organs[[ORGANS.index(contact) for contact in CONTACTS]].max() == 1
        light = take(figure, Pose(Articulation(*organs.tolist())), camera, Light(), wall)
        picture = record(light, Lens(noise=0.0), np.random.default_rng(0))
        cv2.putText(picture, caption, (12, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (20, 20, 20), 3, cv2.LINE_AA)
        pictures.append(picture)
    return pictures


def sheet(pictures: list[Image], columns: int, side: int) -> Image:
    """Lay out pictures in rows."""
    small = [cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA) for picture in pictures]
    rows = [np.hstack(small[start : start + columns]) for start in range(0, len(small), columns)]
    return np.vstack(rows)


def write(name: str, image: Image) -> None:
    """Write a JPEG."""
    cv2.imwrite(str(IMAGES / name), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()

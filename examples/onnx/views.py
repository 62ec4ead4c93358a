"""A video -> what the model sees of its largest face, as `speak.py` beside this takes it; needs the package.

python examples/onnx/views.py examples/bgal7s-silent.mp4 examples/onnx/bgal7s.npy
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import torch

import lipsound2
from lipsound2 import faces, media
from lipsound2.model.preprocess import view

source, target = map(Path, sys.argv[1:])
pipeline = lipsound2.load("grid-s1")
video = pipeline.model.config.video
track = faces.select(pipeline.track(source), "largest")[0][0]
crops = np.stack(list(faces.crop_faces(media.stream_frames(source, video.fps), track)))
if video.channels == 1:
    crops = np.stack([cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None] for crop in crops])
np.save(target, view(torch.from_numpy(crops).permute(0, 3, 1, 2), video).numpy())

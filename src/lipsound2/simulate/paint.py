"""How a speaker looks -> the atlas that colours the head: skin, lips, brows, stubble, eyes, teeth, hair, shirt.

Everything is painted by formulas over the place on the average face, in decimetres from the point
between the eyes. Colours are sRGB from 0 to 1 until the last step, which makes them linear light.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32

from lipsound2.simulate.atlas import HEIGHT, TILES, TORSO_BOX, WIDTH, SkinMap, skin_map
from lipsound2.simulate.hair import scalp_depth
from lipsound2.simulate.head import Part

Colour = tuple[float, float, float]

SKIN_TONES = (
    np.array(
        [(246, 212, 190), (236, 190, 160), (217, 166, 130), (190, 132, 95), (150, 98, 66), (106, 68, 46), (72, 47, 35)]
    )
    / 255
)
"""From the lightest to the darkest, evenly spaced by eye."""
BROW_ARC = np.array([(0.115, 0.168), (0.22, 0.190), (0.36, 0.208), (0.44, 0.198), (0.51, 0.165)])
"""The middle line of a brow: across from the nose, and up."""
MOUTH_LEVEL = -0.675


@dataclass(frozen=True)
class Look:
    """The colours and the hair of a speaker; strengths are from 0 to 1.

    Attributes:
        skin: From 0, the lightest, to 1, the darkest.
        blush: Redness of cheeks and nose.
        lips: Colour of the lips, as a share of red in the skin's own.
        hair: Colour of hair and brows.
        hair_length: 0 shaved, up to 1 a thick short cut.
        curtain: Decimetres that long hair reaches below the eyes; 0 for short hair.
        hairline: How far the hair begins behind the usual line, in decimetres.
        brows: Density of the brows.
        lashes: Darkness of the lashes.
        stubble: Density of the shaved beard.
        iris: Colour of the eyes.
        freckles: How many spots the skin has.
        shirt: Colour of the shirt.
        stripes: Contrast of its stripes.
        roughness: Unevenness of the skin.
    """

    skin: float = 0.2
    blush: float = 0.5
    lips: float = 0.5
    hair: Colour = (0.2, 0.13, 0.08)
    hair_length: float = 0.5
    curtain: float = 0.0
    hairline: float = 0.0
    brows: float = 0.8
    lashes: float = 0.5
    stubble: float = 0.0
    iris: Colour = (0.35, 0.25, 0.15)
    freckles: float = 0.1
    shirt: Colour = (0.25, 0.3, 0.4)
    stripes: float = 0.0
    roughness: float = 0.5


def paint(look: Look, rng: np.random.Generator) -> Float32[np.ndarray, "1216 1024 3"]:
    """Paint the atlas in linear light."""
    image = np.zeros((HEIGHT, WIDTH, 3))
    base = skin_colour(look.skin)
    TILES[Part.SKIN].view(image)[:] = _skin(look, base, rng)
    TILES[Part.TORSO].view(image)[:] = _torso(look, base, rng)
    TILES[Part.HAIR].view(image)[:] = _strands(look, rng)
    TILES[Part.EYE].view(image)[:] = _eye(look, rng)
    TILES[Part.TEETH].view(image)[:] = _teeth(rng)
    TILES[Part.TONGUE].view(image)[:] = np.array([0.66, 0.32, 0.32]) * (0.9 + 0.2 * rng.random())
    TILES[Part.MOUTH].view(image)[:] = (0.40, 0.14, 0.13)
    TILES[Part.SOCKET].view(image)[:] = base * [0.95, 0.75, 0.72]
    TILES[Part.LASH].view(image)[:] = base * (0.75 - 0.6 * look.lashes)
    return to_linear(np.clip(image, 0, 1)).astype(np.float32)


def to_linear(image: np.ndarray) -> np.ndarray:
    """Turn sRGB values into linear light."""
    return np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def skin_colour(tone: float) -> Float[np.ndarray, "3"]:
    """Return the colour of a skin tone from 0, the lightest, to 1, the darkest."""
    steps = np.linspace(0, 1, len(SKIN_TONES))
    return np.array([np.interp(tone, steps, channel) for channel in SKIN_TONES.T])


def noise(shape: tuple[int, int], scale: int, rng: np.random.Generator) -> Float[np.ndarray, "height width"]:
    """Make smooth noise of unit variance whose bumps are about `scale` texels wide."""
    small = (max(2, round(shape[0] / scale) + 3), max(2, round(shape[1] / scale) + 3))
    field = cv2.resize(rng.standard_normal(small), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return field / field.std()


def _bump(distance: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((distance / width) ** 2))


def _step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _mix(image: np.ndarray, colour: np.ndarray, share: np.ndarray) -> np.ndarray:
    return image * (1 - share[..., None]) + np.asarray(colour) * share[..., None]


def _skin(look: Look, base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    under = skin_map()
    shape = under.place.shape[:2]
    x, y, z = np.moveaxis(under.place.astype(np.float64), -1, 0)
    mottled = 0.6 * noise(shape, 60, rng) + 0.4 * noise(shape, 18, rng) + 0.5 * noise(shape, 5, rng)
    image = base * (1 + 0.035 * look.roughness * mottled[..., None] * [0.7, 1, 1])
    fair = 1 - look.skin
    red = _bump(np.hypot(np.abs(x) - 0.42, y + 0.38), 0.24) + 0.9 * _bump(np.hypot(x, y + 0.36), 0.13)
    red += under.masks["ears"]
    image *= 1 - look.blush * (0.06 + 0.12 * fair) * red[..., None] * [0, 1, 0.9]
    around_eyes = _bump(np.hypot((np.abs(x) - 0.30) / 1.5, y + 0.06), 0.11) * (z > -0.2)
    image *= 1 - 0.16 * around_eyes[..., None] * [0.8, 1, 0.9]
    image = _spots(image, look.freckles, rng)
    image = _beard(image, look, under, rng)
    image = _lips(image, look, base, under, rng)
    image = _brows(image, look, x, y, z, rng)
    scalp = _step(
        scalp_depth(under.place.reshape(-1, 3), look.hairline).reshape(shape) + 0.02 * noise(shape, 3, rng), 0.0, 0.08
    )
    cover = np.clip(look.hair_length * 4, 0.55, 1) * scalp * (1 - np.clip(2 * under.masks["ears"], 0, 1))
    return _mix(image, np.array(look.hair) * (1 + 0.15 * noise(shape, 3, rng)[..., None]), cover)


def _spots(image: np.ndarray, freckles: float, rng: np.random.Generator) -> np.ndarray:
    """Scatter freckles and moles."""
    count = int(250 * freckles)
    height, width = image.shape[:2]
    spots = np.zeros((height, width))
    rows, columns = rng.integers(0, height, count), rng.integers(0, width, count)
    for row, column, size in zip(rows, columns, rng.uniform(0.7, 2.2, count), strict=True):
        cv2.circle(spots, (int(column), int(row)), int(np.ceil(size)), float(rng.uniform(0.2, 1)), -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(spots, (0, 0), 0.8)
    return image * (1 - 0.3 * soft[..., None] * [0.7, 1, 1.2])


def _beard(image: np.ndarray, look: Look, under: SkinMap, rng: np.random.Generator) -> np.ndarray:
    x, y, z = np.moveaxis(under.place.astype(np.float64), -1, 0)
    jaw = _step(-y, 0.62, 0.82) * _step(z, -0.75, -0.45)
    sides = _step(np.abs(x), 0.52, 0.68) * _step(-y, 0.15, 0.4) * _step(z, -0.75, -0.5)
    moustache = _bump((y + 0.585) / 0.8, 0.075) * _step(-np.abs(x), -0.36, -0.22) * _step(z, 0.1, 0.2)
    corners = 0.8 * _bump(np.hypot((np.abs(x) - 0.34) / 0.09, (y + 0.72) / 0.16), 1.0)
    bare = _bump(np.hypot(x / 1.8, y - MOUTH_LEVEL), 0.085)
    area = np.clip(np.max([jaw, sides, moustache, corners], axis=0) - 0.9 * bare, 0, 1)
    grain = np.clip(0.8 + 0.3 * rng.standard_normal(area.shape), 0, 1)
    return _mix(image, np.array(look.hair) * 0.8 + 0.06, look.stubble * 0.75 * area * grain)


def _lips(image: np.ndarray, look: Look, base: np.ndarray, under: SkinMap, rng: np.random.Generator) -> np.ndarray:
    mask = cv2.GaussianBlur(under.masks["lips"], (0, 0), 1.5).astype(np.float64)
    colour = base * (0.92 - 0.10 * look.lips) * [1, 0.80 - 0.22 * look.lips, 0.82 - 0.18 * look.lips]
    creases = 1 + 0.05 * noise(mask.shape, 3, rng)
    return _mix(image, colour * creases[..., None], 0.9 * mask)


def _brows(
    image: np.ndarray, look: Look, x: np.ndarray, y: np.ndarray, z: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    across = np.abs(x)
    middle = np.interp(across, *BROW_ARC.T) + rng.uniform(-0.01, 0.02) + rng.uniform(-0.03, 0.06) * (across - 0.3)
    thick = np.interp(across, [0.1, 0.16, 0.36, 0.52], [0.024, 0.042, 0.034, 0.008])
    ends = _step(across, 0.09, 0.14) * _step(-across, -0.54, -0.48) * (z > -0.3)
    hairs = np.clip(0.85 + 0.25 * rng.standard_normal(image.shape[:2]), 0, 1)
    share = look.brows * hairs * ends * np.exp(-(((y - middle) / thick) ** 4))
    return _mix(image, np.array(look.hair) * 0.75, share)


def _torso(look: Look, base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    tile = TILES[Part.TORSO]
    x, y = np.meshgrid(
        np.linspace(TORSO_BOX[0], TORSO_BOX[2], tile.width), np.linspace(TORSO_BOX[3], TORSO_BOX[1], tile.height)
    )
    shape = x.shape
    cloth = np.array(look.shirt) * (1 + 0.05 * noise(shape, 3, rng) + 0.05 * noise(shape, 40, rng))[..., None]
    cloth *= 1 - look.stripes * 0.35 * (np.sin(x * 2 * np.pi / 0.35) > 0)[..., None]
    skin = base * (0.97 + 0.02 * noise(shape, 30, rng))[..., None]
    return _mix(skin, cloth, _step(shirt_depth(x, y), -0.01, 0.01))


def shirt_depth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return how far below the collar a place of the torso is, in decimetres."""
    return -1.78 + 0.42 * np.clip(np.abs(x) / 0.62, 0, 1.15) ** 2 - y


def _strands(look: Look, rng: np.random.Generator) -> np.ndarray:
    """Paint hairs that run down the tile."""
    tile = TILES[Part.HAIR]
    fine = cv2.resize(rng.standard_normal((14, tile.width)), (tile.width, tile.height), interpolation=cv2.INTER_LINEAR)
    broad = cv2.resize(
        rng.standard_normal((8, tile.width // 12)), (tile.width, tile.height), interpolation=cv2.INTER_CUBIC
    )
    return np.array(look.hair) * np.clip(1 + 0.28 * fine + 0.18 * broad, 0.3, 2)[..., None]


def _eye(look: Look, rng: np.random.Generator) -> np.ndarray:
    tile = TILES[Part.EYE]
    x, y = np.meshgrid(np.linspace(-1, 1, tile.width), np.linspace(-1, 1, tile.height))
    away, around = np.hypot(x, y), np.arctan2(y, x)
    image = np.ones((*x.shape, 3)) * [0.80, 0.77, 0.75]
    image *= (1 - 0.25 * _step(away, 0.5, 1.0))[..., None] * [1, 0.93, 0.93]
    rays = np.interp(around, np.linspace(-np.pi, np.pi, 64), rng.uniform(0.8, 1.25, 64))
    iris = np.array(look.iris) * rays[..., None] * (0.75 + 0.5 * _bump(away - 0.25, 0.1))[..., None]
    image = _mix(image, iris, _step(-away, -0.42, -0.39))
    image = _mix(image, np.array(look.iris) * 0.3, _bump(away - 0.40, 0.03))
    return _mix(image, np.array([0.02, 0.02, 0.02]), _step(-away, -0.18, -0.15))


def _teeth(rng: np.random.Generator) -> np.ndarray:
    """Paint two rows of teeth with gaps between them and gums behind their necks."""
    tile = TILES[Part.TEETH]
    u, v = np.meshgrid(np.linspace(0, 1, tile.width), np.linspace(0, 1, tile.height))
    enamel = np.array([0.90, 0.86, 0.77]) * (1 + 0.02 * rng.standard_normal())
    upper = v < 0.5
    from_edge = np.where(upper, 0.5 - v, v - 0.5) * 0.4
    place = (u - 0.5) * np.where(upper, 11.0, 15.0)
    gaps = _bump(place - np.round(place), 0.07)
    image = np.ones((*u.shape, 3)) * enamel * (1 - 0.45 * gaps)[..., None]
    return _mix(image, np.array([0.72, 0.38, 0.38]), _step(from_edge, 0.115, 0.135))

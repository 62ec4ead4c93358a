// Plays 16-bit samples in the order in which they come, and silence where there are none.
class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.pieces = [];
    this.at = 0;
    this.port.onmessage = ({ data }) => this.pieces.push(data);
  }

  process(_, [[output]]) {
    for (let i = 0; i < output.length && this.pieces.length; ) {
      const piece = this.pieces[0];
      const count = Math.min(output.length - i, piece.length - this.at);
      for (let k = 0; k < count; k++) output[i + k] = piece[this.at + k] / 32768;
      i += count;
      this.at += count;
      if (this.at === piece.length) {
        this.pieces.shift();
        this.at = 0;
      }
    }
    return true;
  }
}

registerProcessor("player", Player);

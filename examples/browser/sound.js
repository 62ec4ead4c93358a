// Magnitudes -> audio by the fast Griffin-Lim algorithm (Perraudin et al. 2013), and audio -> a WAV file.

/** Find phases for the magnitudes of a graph's output (1, bins, frames) and scale the audio to the level of the mel. */
export function griffinLim(magnitude, mel, settings) {
  const short = settings.derived.griffin_lim, [, bins, frames] = magnitude.dims;
  const samples = mel.frames * settings.model.audio.hop_length;
  const transform = new Transform(short);
  // Frame by frame, real and imaginary part of each bin side by side.
  const phase = new Float32Array(2 * bins * frames), previous = new Float32Array(phase.length);
  const wanted = new Float32Array(phase.length), random = generator(1);
  for (let t = 0, at = 0; t < frames; t++) {
    for (let bin = 0; bin < bins; bin++, at += 2) {
      const angle = 2 * Math.PI * random();
      phase[at] = Math.cos(angle);
      phase[at + 1] = Math.sin(angle);
      wanted[at] = wanted[at + 1] = magnitude.data[bin * frames + t];
    }
  }
  const share = short.momentum / (1 + short.momentum);
  const now = () => transform.inverse(phase.map((value, i) => value * wanted[i]), frames, samples);
  for (let i = 0; i < short.iterations; i++) {
    const rebuilt = transform.forward(now(), frames);
    for (let at = 0; at < phase.length; at += 2) {
      const real = rebuilt[at] + share * (rebuilt[at] - previous[at]);
      const imaginary = rebuilt[at + 1] + share * (rebuilt[at + 1] - previous[at + 1]);
      const size = Math.max(Math.hypot(real, imaginary), 1e-10);
      phase[at] = real / size;
      phase[at + 1] = imaginary / size;
    }
    previous.set(rebuilt);
  }
  const wave = now();
  const factor = mel.data.reduce((sum, value) => sum + Math.exp(value), 0) / loudness(wave, mel.frames, settings);
  return wave.map((value) => Math.min(1, Math.max(-1, value * factor)));
}

/** Write audio as a 16-bit WAV file. */
export function wav(wave, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * wave.length));
  const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * wave.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true); text(36, "data"); view.setUint32(40, 2 * wave.length, true);
  wave.forEach((value, i) => view.setInt16(44 + 2 * i, Math.round(32767 * value), true));
  return new Blob([view], { type: "audio/wav" });
}

/** Sum the mel spectrogram of a wave. */
function loudness(wave, frames, settings) {
  const { n_fft, win_length, hop_length, floor } = settings.model.audio;
  const spectrum = new Transform({ n_fft, win_length, hop_length }).forward(wave, frames), bins = n_fft / 2 + 1;
  let sum = 0;
  for (let t = 0; t < frames; t++) {
    for (const { first, weights } of settings.derived.mel_filters) {
      const at = 2 * (t * bins + first);
      const band = weights.reduce((total, weight, i) => total + weight * Math.hypot(spectrum[at + 2 * i], spectrum[at + 2 * i + 1]), 0);
      sum += Math.max(band, floor);
    }
  }
  return sum;
}

/** The STFT of frames that are centred on every hop, with zeros around the wave. */
class Transform {
  constructor({ n_fft, win_length, hop_length }) {
    this.size = n_fft;
    this.hop = hop_length;
    this.window = new Float32Array(n_fft);
    const left = Math.floor((n_fft - win_length) / 2);
    for (let i = 0; i < win_length; i++) this.window[left + i] = 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / win_length);
    this.fft = new Fft(n_fft);
  }

  forward(wave, frames) {
    const { size, hop, window, fft } = this, bins = size / 2 + 1, result = new Float32Array(2 * bins * frames);
    for (let t = 0; t < frames; t++) {
      const first = t * hop - size / 2;
      for (let i = 0; i < size; i++) {
        fft.real[i] = window[i] * (wave[first + i] || 0);
        fft.imaginary[i] = 0;
      }
      fft.run();
      for (let bin = 0, at = 2 * bins * t; bin < bins; bin++, at += 2) {
        result[at] = fft.real[bin];
        result[at + 1] = fft.imaginary[bin];
      }
    }
    return result;
  }

  inverse(spectrum, frames, samples) {
    const { size, hop, window, fft } = this, bins = size / 2 + 1;
    const sum = new Float32Array(samples + size), weight = new Float32Array(samples + size);
    for (let t = 0; t < frames; t++) {
      // The conjugate of a real signal's spectrum, transformed forwards, is the signal itself.
      for (let bin = 0, at = 2 * bins * t; bin < bins; bin++, at += 2) {
        fft.real[bin] = spectrum[at];
        fft.imaginary[bin] = bin === 0 || bin === size / 2 ? 0 : -spectrum[at + 1];
        if (bin > 0 && bin < size / 2) {
          fft.real[size - bin] = spectrum[at];
          fft.imaginary[size - bin] = spectrum[at + 1];
        }
      }
      fft.run();
      for (let i = 0, at = t * hop; i < size && at < sum.length; i++, at++) {
        sum[at] += (window[i] * fft.real[i]) / size;
        weight[at] += window[i] * window[i];
      }
    }
    return Float32Array.from({ length: samples }, (_, i) => sum[i + size / 2] / Math.max(weight[i + size / 2], 1e-8));
  }
}

/** A Fourier transform in place, of a power of two. */
class Fft {
  constructor(size) {
    this.real = new Float64Array(size);
    this.imaginary = new Float64Array(size);
    const bits = Math.log2(size);
    this.reversed = Uint32Array.from({ length: size }, (_, i) => {
      let value = 0;
      for (let bit = 0; bit < bits; bit++) value |= ((i >> bit) & 1) << (bits - 1 - bit);
      return value;
    });
    this.cosine = Float64Array.from({ length: size / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / size));
    this.sine = Float64Array.from({ length: size / 2 }, (_, i) => -Math.sin((2 * Math.PI * i) / size));
  }

  run() {
    const { real, imaginary, reversed, cosine, sine } = this, size = real.length;
    for (let i = 0; i < size; i++) {
      const j = reversed[i];
      if (j > i) {
        [real[i], real[j]] = [real[j], real[i]];
        [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
      }
    }
    for (let half = 1; half < size; half *= 2) {
      const step = size / (2 * half);
      for (let start = 0; start < size; start += 2 * half) {
        for (let i = start, k = 0; i < start + half; i++, k += step) {
          const j = i + half;
          const x = real[j] * cosine[k] - imaginary[j] * sine[k], y = real[j] * sine[k] + imaginary[j] * cosine[k];
          real[j] = real[i] - x;
          imaginary[j] = imaginary[i] - y;
          real[i] += x;
          imaginary[i] += y;
        }
      }
    }
  }
}

/** Return random numbers in 0..1 that are the same at each run (mulberry32). */
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let value = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 4294967296;
  };
}

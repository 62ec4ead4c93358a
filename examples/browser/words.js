// Log-posteriors -> words with times and confidences: the best path of CTC, and what is too uncertain left out.

/** Read the words of posteriors (frames, symbols), the blank last. */
export function words(values, symbols, settings) {
  const { alphabet, gate, timing, features } = settings.recognizer;
  const { samples_per_frame, longest_pause } = settings.derived.recognizer;
  const seconds = samples_per_frame / features.sample_rate;
  const characters = spans(values, symbols), groups = [[]];
  for (const span of characters) {
    const word = groups[groups.length - 1], space = alphabet[span.symbol] === " ";
    const paused = word.length && (span.start - word[word.length - 1].end) * seconds > longest_pause;
    if (space || paused) groups.push([]);
    if (!space) groups[groups.length - 1].push(span);
  }
  const found = groups.filter((group) => group.length).map((group) => ({
    text: group.map((span) => alphabet[span.symbol]).join(""),
    start: group[0].start * seconds,
    end: group[group.length - 1].end * seconds + timing.after,
    confidence: Math.exp(mean(group.map((span) => span.score))),
  }));
  return clear(found, gate);
}

function spans(values, symbols) {
  const found = [], frames = values.length / symbols;
  let last = symbols - 1;
  for (let frame = 0; frame < frames; frame++) {
    const row = values.subarray(frame * symbols, (frame + 1) * symbols);
    const best = row.indexOf(Math.max(...row));
    if (best !== symbols - 1) {
      if (best !== last) found.push({ symbol: best, start: frame, end: frame + 1, score: row[best] });
      else {
        const span = found[found.length - 1];
        span.end = frame + 1;
        span.score = Math.max(span.score, row[best]);
      }
    }
    last = best;
  }
  return found;
}

/** Keep the stretches of words that are certain enough for speech. */
function clear(found, gate) {
  const stretches = [];
  for (const word of found) {
    const last = stretches[stretches.length - 1];
    if (last && word.start - last[last.length - 1].end <= gate.max_gap) last.push(word);
    else stretches.push([word]);
  }
  return stretches.filter((stretch) => mean(stretch.map((word) => word.confidence)) >= gate.min_confidence).flat();
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

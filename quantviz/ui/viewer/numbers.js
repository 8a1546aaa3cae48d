// Arithmetic of maps, without a page: resizing, colours, contours. A map is {values: Float32Array, width, height}.

// Bilinear, pixel centres at halves (torch's align_corners=False), then scaled to [0, 1]: what Python does to a native
// map, so that both show the same numbers.
function resized(rows, width, height) {
  const down = rows.length, across = rows[0].length;
  const place = (count, of) => Array.from({ length: count }, (_, at) => {
    const from = Math.max((at + 0.5) * of / count - 0.5, 0), low = Math.min(Math.floor(from), of - 1);
    return [low, Math.min(low + 1, of - 1), from - low];
  });
  const columns = place(width, across), values = new Float32Array(width * height);
  let least = Infinity, most = -Infinity;
  place(height, down).forEach(([above, below, share], y) => {
    const upper = rows[above], lower = rows[below];
    for (let x = 0; x < width; x++) {
      const [left, right, part] = columns[x];
      const top = upper[left] + (upper[right] - upper[left]) * part;
      const bottom = lower[left] + (lower[right] - lower[left]) * part;
      const value = top + (bottom - top) * share;
      values[y * width + x] = value;
      if (value < least) least = value;
      if (value > most) most = value;
    }
  });
  const span = most - least || 1;
  for (let at = 0; at < values.length; at++) values[at] = (values[at] - least) / span;
  return { values, width, height };
}

// Nine colours of each map, from 0 to 1, between which colours are mixed. Each gets lighter throughout.
const COLOUR_MAPS = {
  viridis: "440154 472d7b 3b528b 2c728e 21918c 28ae80 5ec962 addc30 fde725",
  cividis: "00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 fee838",
  magma: "000004 1d1147 51127c 832681 b73779 e75263 fc8961 fec488 fcfdbf",
};
const DIVERGING = "2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b";

// 256 colours, red, green and blue of each in turn.
function palette(words) {
  const anchors = words.split(" ").map((word) => [0, 2, 4].map((at) => parseInt(word.slice(at, at + 2), 16)));
  const colours = new Uint8ClampedArray(768);
  for (let step = 0; step < 256; step++) {
    const at = step / 255 * (anchors.length - 1), low = Math.min(Math.floor(at), anchors.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [from, to] = [anchors[low][channel], anchors[low + 1][channel]];
      colours[3 * step + channel] = from + (to - from) * (at - low);
    }
  }
  return colours;
}

// A map as pixels: the more a value says, the less of the photograph shows through.
function coloured(map, colours, opacity, centred = false, limit = 1) {
  const pixels = new ImageData(map.width, map.height), { data } = pixels;
  for (let at = 0; at < map.values.length; at++) {
    const value = map.values[at] / limit, strength = Math.abs(value);
    const step = 3 * Math.round(255 * Math.min(Math.max(centred ? (value + 1) / 2 : value, 0), 1));
    data[4 * at] = colours[step];
    data[4 * at + 1] = colours[step + 1];
    data[4 * at + 2] = colours[step + 2];
    data[4 * at + 3] = 255 * opacity * (centred ? Math.min(2 * strength, 1) : 0.35 + 0.65 * strength);
  }
  return pixels;
}

function difference(first, second) {
  return { ...first, values: first.values.map((value, at) => value - second.values[at]) };
}

// The value above which the greatest fifth of the pixels lie.
function topFifth(map) {
  return Float32Array.from(map.values).sort()[Math.floor(0.8 * map.values.length)];
}

// Lines along which a map has a value, as lists of [x, y] in pixels: marching squares, every second pixel.
function contours(map, level, step = 2) {
  const value = (x, y) => map.values[Math.min(y, map.height - 1) * map.width + Math.min(x, map.width - 1)];
  const crossing = (x0, y0, x1, y1) => {
    const from = value(x0, y0), share = (level - from) / (value(x1, y1) - from);
    return [x0 + (x1 - x0) * share + 0.5, y0 + (y1 - y0) * share + 0.5];
  };
  const next = new Map(), starts = [];
  for (let y = 0; y + step < map.height; y += step) {
    for (let x = 0; x + step < map.width; x += step) {
      const corners = [[x, y], [x + step, y], [x + step, y + step], [x, y + step]];
      const inside = corners.map(([cx, cy]) => value(cx, cy) > level), ends = [];
      for (let side = 0; side < 4; side++) {
        const [a, b] = [corners[side], corners[(side + 1) % 4]];
        // In the same direction on both sides of an edge, so that neighbouring squares find the same point.
        const ordered = a[0] + a[1] * map.width < b[0] + b[1] * map.width ? [a, b] : [b, a];
        if (inside[side] !== inside[(side + 1) % 4]) ends.push(crossing(...ordered[0], ...ordered[1]));
      }
      for (let at = 0; at + 1 < ends.length; at += 2) starts.push([ends[at], ends[at + 1]]);
    }
  }
  const name = (point) => point.map((part) => part.toFixed(3)).join();
  starts.forEach((line, at) => line.forEach((point) => {
    next.set(name(point), [...(next.get(name(point)) ?? []), at]);
  }));
  const used = new Set(), lines = [];
  const follow = (line, point) => {
    for (;;) {
      const at = (next.get(name(point)) ?? []).find((other) => !used.has(other));
      if (at === undefined) return line;
      used.add(at);
      point = starts[at].find((end) => name(end) !== name(point)) ?? starts[at][1];
      line.push(point);
    }
  };
  starts.forEach((line, at) => {
    if (used.has(at)) return;
    used.add(at);
    const ahead = follow([line[0], line[1]], line[1]), back = follow([], line[0]);
    lines.push([...back.reverse(), ...ahead]);
  });
  return lines;
}

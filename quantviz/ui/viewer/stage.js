// What the viewer shows, and drawing it: the panels of a mode, the maps over the photograph, contours and crosshair.

const GAP = 16, CAPTION = 28, TALLEST = 440, NARROWEST = 300;  // pixels
const SETTLED = 600;  // milliseconds after which what was chosen is told

function element(name, options = {}, ...children) {
  const made = Object.assign(document.createElement(name), options);
  made.append(...children);
  return made;
}

class Stage {
  constructor(root, data) {
    this.root = root.querySelector(".viewer");
    this.data = data;
    this.find = (words) => this.root.querySelector(words);
    this.at = Math.min(data.start, data.frames.length - 1);
    this.mode = data.mode;
    this.opacity = data.opacity;
    this.colours = "viridis";
    this.split = 0.5;
    this.stretch = false;
    this.more = data.layers.some(({ shown }) => shown);
    this.window = { x: 0, y: 0, scale: 1 };
    this.cross = null;
    this.made = new Map();
    this.font = getComputedStyle(this.root).fontFamily;
    this.canvas = this.find(".stage canvas");
    this.photo = new Image();
  }

  // --- what is shown -------------------------------------------------------------------------------------------------

  get frame() {
    return this.data.frames[this.at];
  }

  kept(name, make) {
    if (!this.made.has(name)) this.made.set(name, make());
    return this.made.get(name);
  }

  // The map of a frame, or of the float network: at = -1. Null where it carries no evidence.
  map(at) {
    const { native } = at < 0 ? this.data.reference : this.data.frames[at];
    return this.kept(`map ${at}`, () => native && resized(native, this.data.width, this.data.height));
  }

  changed() {
    const [first, second] = [this.map(-1), this.map(this.at)];
    return first && second && this.kept(`difference ${this.at}`, () => difference(second, first));
  }

  // What stands for full colour in the difference: 1 on the fixed scale, else the largest difference there is.
  limit() {
    const map = this.stretch && this.changed();
    return map ? this.kept(`limit ${this.at}`, () => map.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)) || 1 : 1;
  }

  further(at) {
    const { width, height } = this.data;
    return this.kept(`further ${at}`, () => {
      const levels = atob(this.data.layers[at].levels);
      return { values: Float32Array.from(levels, (level) => level.charCodeAt(0) / 255), width, height };
    });
  }

  picture(map, name, words, centred, limit = 1) {
    return this.kept(`picture ${name} ${words}`, () => {
      const canvas = element("canvas", { width: map.width, height: map.height });
      canvas.getContext("2d").putImageData(coloured(map, palette(words), 1, centred, limit), 0, 0);
      return canvas;
    });
  }

  layer(at) {
    if (at === "difference") {
      const map = this.changed(), limit = this.limit();
      return map && this.picture(map, `difference ${this.at} ${limit}`, DIVERGING, true, limit);
    }
    if (at?.further !== undefined) {
      return this.picture(this.further(at.further), `further ${at.further}`, COLOUR_MAPS[this.colours], false);
    }
    const map = this.map(at);
    return map && this.picture(map, at, COLOUR_MAPS[this.colours], false);
  }

  panels() {
    const name = this.frame.name;
    if (this.mode === "side") {
      const further = this.more ? this.data.layers.map((layer, at) => ({ at: { further: at }, title: layer.name })) : [];
      return [...further, { at: -1, title: "float" }, { at: this.at, title: name }];
    }
    const photo = { at: null, title: "photograph" };
    if (this.mode === "difference") {
      const limit = this.limit(), most = limit === 1 ? "1" : limit.toFixed(2), words = limit === 1 ? "" : ", stretched";
      return [photo, { at: "difference", title: `${name} − float${words}: −${most} blue, +${most} red` }];
    }
    if (this.mode === "flicker") return [photo, this.flipped ? { at: this.at, title: name } : { at: -1, title: "float" }];
    return [photo, { at: -1, over: this.at, title: `float | ${name}` }];
  }

  // --- drawing -------------------------------------------------------------------------------------------------------

  draw() {
    if (!this.waiting) this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.drawn();
    });
  }

  drawn() {
    const width = this.find(".stage").clientWidth, panels = this.panels(), ratio = window.devicePixelRatio || 1;
    if (!width || !this.photo.naturalWidth) return;
    const aspect = this.data.width / this.data.height;
    // Below each other, where side by side they would be too narrow to read.
    const across = Math.min(panels.length, Math.max(Math.floor((width + GAP) / (NARROWEST + GAP)), 1));
    const tallest = document.fullscreenElement ? window.innerHeight - 320 : Math.min(TALLEST, Math.max(0.38 * window.innerHeight, NARROWEST));
    const each = Math.min((width - GAP * (across - 1)) / across, tallest * aspect), tall = each / aspect + CAPTION;
    const left = (width - each * across - GAP * (across - 1)) / 2, rows = Math.ceil(panels.length / across);
    this.places = panels.map((panel, at) => ({
      ...panel, x: left + at % across * (each + GAP), y: CAPTION + Math.floor(at / across) * tall,
      width: each, height: each / aspect,
    }));
    const [wide, high] = [Math.round(width * ratio), Math.round(rows * tall * ratio)];
    // Another size makes the canvas anew, which costs more than to wipe it.
    if (this.canvas.width !== wide || this.canvas.height !== high) Object.assign(this.canvas, { width: wide, height: high });
    this.canvas.style.height = `${rows * tall}px`;
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, rows * tall);
    this.colour = getComputedStyle(this.root).color;
    this.places.forEach((place) => this.panel(context, place));
  }

  // The photograph in grey, drawn once: a filter is too slow for every frame.
  grey() {
    return this.kept("grey", () => {
      const canvas = element("canvas", { width: this.photo.naturalWidth, height: this.photo.naturalHeight });
      const context = canvas.getContext("2d");
      context.filter = "grayscale(1)";
      context.drawImage(this.photo, 0, 0);
      return canvas;
    });
  }

  panel(context, place) {
    context.font = `600 16px ${this.font}`;
    context.fillStyle = this.colour;
    context.fillText(place.title, place.x, place.y - 8, place.width);
    context.save();
    context.beginPath();
    context.rect(place.x, place.y, place.width, place.height);
    context.clip();
    const under = place.at === null ? this.photo : this.grey();
    this.stretched(context, under, place, this.photo.naturalWidth, this.photo.naturalHeight);
    if (place.at !== null) this.overlay(context, place, place.at, 0, place.over === undefined ? 1 : this.split);
    if (place.over !== undefined) {
      this.overlay(context, place, place.over, this.split, 1);
      context.fillStyle = "#fff";
      context.fillRect(place.x + this.split * place.width - 1.5, place.y, 3, place.height);
    }
    if (this.find(".contours").checked) this.outlines(context, place);
    if (this.cross) this.crosshair(context, place);
    context.restore();
  }

  // Draw the part of an image that the window shows, on a panel.
  stretched(context, image, place, width, height) {
    const { x, y, scale } = this.window;
    const part = [x * width, y * height, width / scale, height / scale];
    context.drawImage(image, ...part, place.x, place.y, place.width, place.height);
  }

  overlay(context, place, at, from, to) {
    const layer = this.layer(at);
    context.save();
    context.beginPath();
    context.rect(place.x + from * place.width, place.y, (to - from) * place.width, place.height);
    context.clip();
    context.globalAlpha = this.opacity;
    if (layer) this.stretched(context, layer, place, layer.width, layer.height);
    context.globalAlpha = 1;
    if (!layer) {
      const { problem, pending } = at < 0 ? this.data.reference : this.frame;
      context.fillStyle = "rgba(0,0,0,.75)";
      context.fillRect(place.x, place.y + place.height / 2 - 18, place.width, 36);
      context.fillStyle = "#fff";
      const words = pending ? "Being computed …" : `No evidence: ${problem || this.data.reference.problem}`;
      context.fillText(words, place.x + 8, place.y + place.height / 2 + 6, place.width - 16);
    }
    context.restore();
  }

  onPanel(place, [x, y]) {
    const { scale } = this.window;
    return [
      place.x + (x / this.data.width - this.window.x) * scale * place.width,
      place.y + (y / this.data.height - this.window.y) * scale * place.height,
    ];
  }

  outlines(context, place) {
    for (const [at, dashes] of [[-1, []], [this.at, [8, 6]]]) {
      const map = this.map(at);
      if (!map) continue;
      const lines = this.kept(`contours ${at}`, () => contours(map, topFifth(map)));
      for (const [width, colour] of [[4, "#000"], [2, "#fff"]]) {
        context.setLineDash(dashes);
        Object.assign(context, { lineWidth: width, strokeStyle: colour });
        for (const line of lines) {
          context.beginPath();
          line.forEach((point) => context.lineTo(...this.onPanel(place, point)));
          context.stroke();
        }
      }
    }
    context.setLineDash([]);
  }

  crosshair(context, place) {
    const [x, y] = this.onPanel(place, [this.cross[0] + 0.5, this.cross[1] + 0.5]);
    for (const [width, colour] of [[3, "rgba(0,0,0,.6)"], [1, "#fff"]]) {
      Object.assign(context, { lineWidth: width, strokeStyle: colour });
      context.beginPath();
      context.moveTo(x, place.y);
      context.lineTo(x, place.y + place.height);
      context.moveTo(place.x, y);
      context.lineTo(place.x + place.width, y);
      context.stroke();
    }
  }
}

// The viewer of maps. Everything happens here, without the server: it got the native maps of all bit-widths as numbers.

const MODES = { side: "Side by side", swipe: "Swipe", flicker: "Flicker", difference: "Difference" };
const FLICKER = 800, PLAY = 1100;  // milliseconds
const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");

const SIGNS = { same: "●", nearly_same: "◕", partly_elsewhere: "◑", elsewhere: "○", unstable: "≋", unknown: "–" };

const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);

// A verdict's words, and the numbers that stand in parentheses behind them.
function parted(words) {
  const at = words.lastIndexOf(" (");
  return at < 0 ? [words, ""] : [`${words.slice(0, at)}.`, words.slice(at + 2).replace(/\)\.$/, "")];
}

class Viewer extends Framed {
  // When the page runs again, what was chosen stays: of the same networks the one that is shown, too.
  constructor(root, data, before, tell) {
    super(root, data);
    this.timers = {};
    this.tells = tell;
    this.tell = data.tells ? tell : null;
    if (before) this.goOn(before);
    this.photo.onload = () => { this.thumbnails(); this.draw(); };
    this.photo.src = data.photo;
    this.controls();
    this.strip();
    this.table();
    this.pointer();
    this.keys();
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this.find(".stage"));
    this.show(this.at);
    this.root.quantviz = this;  // so that a test can read what is shown
    window.quantviz = this;  // Streamlit may put another element in the place of this one
  }

  goOn(before) {
    for (const name of ["mode", "opacity", "colours", "split", "stretch"]) this[name] = before[name];
    const further = (data) => data.layers.map(({ name }) => name).join();
    if (further(before.data) === further(this.data)) this.more = before.more;  // a map that is new is shown
    this.find(".contours").checked = before.find(".contours").checked;
    const same = before.data.photo === this.data.photo;
    if (same) this.window = before.window;
    const names = (data) => data.frames.map(({ name }) => name).join();
    if (same && names(before.data) === names(this.data) && before.data.start === this.data.start) this.at = before.at;
  }

  end() {
    this.watcher.disconnect();
    Object.values(this.timers).forEach(clearInterval);
  }

  // --- words ---------------------------------------------------------------------------------------------------------

  show(at) {
    this.at = at;
    const { frame } = this, [words, numbers] = parted(frame.words);
    this.find(".attention strong").textContent =
      `${frame.pending ? "…" : SIGNS[frame.attention]} ${frame.subject || `${frame.name}: it`} ${words}`;
    this.find(".attention span").textContent = numbers;
    const label = this.find(".label span");
    label.className = frame.flipped ? "flip" : "";
    label.textContent = (frame.flipped ? "⇄ " : "") + frame.prediction;
    this.find(".size").hidden = !this.data.frames.some(({ size }) => size);
    this.find(".size span").textContent = frame.size;
    this.canvas.setAttribute("aria-label", `${this.data.sentence} Shown: ${frame.name}, ${frame.words} ${frame.prediction}`);
    const chosen = this.root.querySelectorAll(".strip input")[at];
    if (chosen) chosen.checked = true;
    this.read();
    this.mapOnWhole();
    this.draw();
  }

  read() {
    const line = this.find(".readout");
    if (!this.cross) {
      line.textContent = this.data.hint;
      return;
    }
    const [x, y] = this.cross, place = y * this.data.width + x;
    const [first, second] = [this.map(-1)?.values[place], this.map(this.at)?.values[place]];
    const words = [`x ${x}, y ${y}`];
    if (first !== undefined) words.push(`float ${first.toFixed(2)}`);
    if (second !== undefined) words.push(`${this.frame.name} ${second.toFixed(2)}`);
    if (first !== undefined && second !== undefined) words.push(`difference ${signed(second - first)}`);
    this.data.layers.forEach(({ name }, at) => words.push(`${name} ${this.further(at).values[place].toFixed(2)}`));
    line.textContent = words.join("  ·  ");
  }

  table() {
    this.find("caption").textContent = this.data.sentence;
    const row = (cell, words) => element("tr", {}, ...words.map((word) => element(cell, { textContent: word })));
    this.find("thead").replaceChildren(row("th", ["Network", "CC with the float map", "Verdict", "Prediction", "Size"]));
    this.find("tbody").replaceChildren(
      ...this.data.frames.map(({ name, cc, words, prediction, size }) =>
        row("td", [name, cc === null ? "none" : cc.toFixed(3), words, prediction, size])),
    );
  }

  // --- controls ------------------------------------------------------------------------------------------------------

  controls() {
    const name = `mode-${Math.random()}`;
    this.find(".modes").replaceChildren(...Object.entries(MODES).map(([mode, words]) => {
      const input = element("input", { type: "radio", name, value: mode, checked: mode === this.mode });
      input.onchange = () => this.turn(mode);
      return element("label", {}, input, words);
    }));
    this.around();
    const opacity = this.find(".opacity"), colours = this.find(".colours"), stretch = this.find(".stretch");
    stretch.checked = this.stretch;
    stretch.onchange = () => { this.stretch = stretch.checked; this.draw(); };
    const more = this.find(".more");
    more.checked = this.more;
    more.onchange = () => { this.more = more.checked; this.draw(); };
    this.find(".link").onclick = () => this.address();
    opacity.value = 100 * this.opacity;
    opacity.oninput = () => { this.opacity = opacity.value / 100; this.mapOnWhole(); this.draw(); };
    colours.replaceChildren(...Object.keys(COLOUR_MAPS).map((map) => element("option", { value: map, textContent: map })));
    colours.value = this.colours;
    colours.onchange = () => { this.colours = colours.value; this.thumbnails(); this.mapOnWhole(); this.draw(); };
    this.find(".contours").onchange = () => this.draw();
    this.find(".divider").oninput = (event) => { this.split = event.target.value / 100; this.draw(); };
    this.find(".play").onclick = () => this.play(!this.timers.play);
    this.find(".copy").onclick = () => this.copy();
    this.find(".full").onclick = () => document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen();
    this.root.querySelectorAll("[data-zoom]").forEach((button) => {
      const by = { in: 1.5, out: 1 / 1.5, all: 0 }[button.dataset.zoom];
      button.onclick = () => this.zoom(by, 0.5, 0.5);
    });
    this.turn(this.mode);
  }

  turn(mode) {
    this.mode = mode;
    this.find(".stretching").hidden = mode !== "difference";
    this.find(".further").hidden = mode !== "side" || !this.data.layers.length;
    this.flipped = false;
    this.find(".divider").hidden = mode !== "swipe";
    this.find(".divider").value = 100 * this.split;
    clearInterval(this.timers.flicker);
    // Where motion is unwelcome, the space bar turns between the two.
    if (mode === "flicker" && !STILL.matches) this.timers.flicker = setInterval(() => this.flick(), FLICKER);
    this.draw();
  }

  flick() {
    this.flipped = !this.flipped;
    this.draw();
  }

  play(on) {
    clearInterval(this.timers.play);
    const next = () => this.show((this.at + 1) % this.data.frames.length);
    this.timers.play = on ? setInterval(next, PLAY) : 0;
    this.find(".verdict").ariaLive = on ? "off" : "polite";  // nobody listens to a word a second
    if (on) next();
    const button = this.find(".play");
    button.textContent = on ? "⏸" : "▶";
    button.ariaLabel = on ? "Pause" : "Play through the bit-widths";
  }

  strip() {
    const name = `frame-${Math.random()}`, { frames } = this.data;
    this.find(".bits").hidden = frames.length < 2;
    this.find(".strip").style.setProperty("--frames", frames.length);
    this.find(".strip").replaceChildren(this.line(), ...frames.map((frame, at) => {
      const input = element("input", { type: "radio", name, ariaLabel: `${frame.name}, ${frame.words}` });
      input.onchange = () => { this.play(false); this.show(at); this.settle(frame.name); };
      const small = element("canvas", { width: 64, height: 64, ariaHidden: "true" });
      const mark = frame.flipped ? " ⇄" : "";
      const known = frame.cc === null ? "–" : `CC ${frame.cc.toFixed(2).replace("-", "−")}`;
      const cc = element("div", { textContent: frame.pending ? "…" : known });
      const title = element("strong", { textContent: frame.name + mark });
      return element("label", { title: frame.words, className: frame.pending ? "pending" : "" }, input, small, title, cc);
    }));
    this.thumbnails();
  }

  // Tell the page which frame was chosen, once the visitor rests on it.
  settle(name) {
    clearTimeout(this.timers.settle);
    if (this.tell) this.timers.settle = setTimeout(() => this.tell("frame", name), SETTLED);
  }

  // CC of each frame, from 1 at the top to 0 at the bottom, over the middle of its thumbnail.
  line() {
    const space = "http://www.w3.org/2000/svg", drawn = document.createElementNS(space, "svg"), { frames } = this.data;
    const line = document.createElementNS(space, "polyline");
    drawn.setAttribute("viewBox", `0 0 ${frames.length} 1`);
    drawn.setAttribute("preserveAspectRatio", "none");
    drawn.setAttribute("aria-hidden", "true");
    const known = frames.map(({ cc }, at) => [at + 0.5, cc]).filter(([, cc]) => cc !== null);
    line.setAttribute("points", known.map(([x, cc]) => `${x},${1 - Math.max(cc, 0)}`).join(" "));
    drawn.append(line);
    return drawn;
  }

  thumbnails() {
    if (!this.photo.naturalWidth) return;  // they are drawn once it is there
    this.root.querySelectorAll(".strip canvas").forEach((canvas, at) => {
      const layer = this.layer(at), context = canvas.getContext("2d");
      context.drawImage(this.grey(), 0, 0, 64, 64);
      if (layer) context.drawImage(layer, 0, 0, 64, 64);
    });
  }

  // --- pointer and keys ----------------------------------------------------------------------------------------------

  // The panel below a point of the stage, and where on its window, from 0 to 1; null beside the panels.
  under(event) {
    const box = this.canvas.getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const place = (this.places ?? []).find((one) =>
      x >= one.x && x < one.x + one.width && y >= one.y && y < one.y + one.height);
    return place && { place, across: (x - place.x) / place.width, down: (y - place.y) / place.height };
  }

  // One finger or the mouse moves the divider, or what is shown while it is zoomed; two fingers zoom.
  pointer() {
    let held = null, pinch = null;
    const { canvas } = this, down = new Map();
    const ended = (event) => {
      down.delete(event.pointerId);
      held = pinch = null;
    };
    canvas.onpointerdown = (event) => {
      const spot = this.under(event);
      down.set(event.pointerId, event);
      pinch = down.size === 2 ? this.pinched([...down.values()]) : null;
      if (pinch) canvas.setPointerCapture(event.pointerId);
      if (!spot || pinch) return;
      canvas.setPointerCapture(event.pointerId);
      held = { ...spot, window: { ...this.window }, divider: this.mode === "swipe" && this.window.scale === 1 };
      canvas.onpointermove(event);
    };
    canvas.onpointerup = canvas.onpointercancel = ended;
    canvas.onpointerleave = () => { if (!held) this.point(null); };
    canvas.onpointermove = (event) => {
      const spot = this.under(event);
      if (down.has(event.pointerId)) down.set(event.pointerId, event);
      if (pinch) {
        const now = this.pinched([...down.values()]);
        if (now) this.zoom(now.apart / pinch.apart, now.across, now.down);
        pinch = now ?? pinch;
        return;
      }
      if (held?.divider && spot) this.find(".divider").value = 100 * (this.split = spot.across);
      if (held && !held.divider && spot) {
        const { scale } = this.window;
        this.place(held.window.x - (spot.across - held.across) / scale, held.window.y - (spot.down - held.down) / scale);
      }
      this.point(spot && [this.window.x + spot.across / this.window.scale, this.window.y + spot.down / this.window.scale]);
    };
    canvas.ondblclick = () => this.zoom(0);
    canvas.onwheel = (event) => {
      const spot = (event.ctrlKey || event.metaKey) && this.under(event);  // else the page is scrolled
      if (!spot) return;
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 300), spot.across, spot.down);
    };
  }

  // How far two fingers are apart, and where on the window their middle is; null where that is beside the panels.
  pinched([first, second]) {
    const apart = Math.hypot(first.clientX - second.clientX, first.clientY - second.clientY);
    const middle = { clientX: (first.clientX + second.clientX) / 2, clientY: (first.clientY + second.clientY) / 2 };
    const spot = this.under(middle);
    return spot && { apart: Math.max(apart, 1), across: spot.across, down: spot.down };
  }

  point(spot) {
    const whole = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
    this.cross = spot ? [whole(spot[0], this.data.width), whole(spot[1], this.data.height)] : null;
    this.read();
    this.draw();
  }

  // Zoom by a factor about a point of the window; by 0: show everything.
  zoom(by, across = 0.5, down = 0.5) {
    const { x, y, scale } = this.window, wanted = by ? Math.min(Math.max(scale * by, 1), 16) : 1;
    this.window.scale = wanted;
    this.place(x + across / scale - across / wanted, y + down / scale - down / wanted);
  }

  place(x, y) {
    const most = 1 - 1 / this.window.scale;
    Object.assign(this.window, { x: Math.min(Math.max(x, 0), most), y: Math.min(Math.max(y, 0), most) });
    this.canvas.style.touchAction = most ? "none" : "";  // a finger moves what is zoomed, and else scrolls the page
    this.draw();
  }

  keys() {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    this.find(".stage").onkeydown = (event) => {
      if (event.target !== event.currentTarget) return;
      const move = moves[event.key], zoom = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, 0: 0 }[event.key];
      if (move) {
        const { width, height } = this.data, step = event.shiftKey ? 1 : 8;
        const [x, y] = this.cross ?? [width >> 1, height >> 1];
        this.point([(x + 0.5 + step * move[0]) / width, (y + 0.5 + step * move[1]) / height]);
      } else if (zoom !== undefined) {
        this.zoom(zoom);
      } else if (event.key === " " && this.mode === "flicker") {
        this.flick();
      } else {
        return;
      }
      event.preventDefault();
    };
  }

  // --- out of the page -----------------------------------------------------------------------------------------------

  async address() {
    const button = this.find(".link");
    try {
      await navigator.clipboard.writeText(window.location.href);
      button.textContent = "Link copied";
    } catch {  // no clipboard here, or not allowed
      window.prompt("The link to this view", window.location.href);
    }
    setTimeout(() => { button.textContent = "Copy link"; }, 2000);
  }

  async copy() {
    const blob = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/png")), button = this.find(".copy");
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
      button.textContent = "Copied";
    } catch {  // no clipboard here, or not allowed: a file then
      const link = element("a", { href: URL.createObjectURL(blob), download: "quantviz-maps.png" });
      link.click();
      URL.revokeObjectURL(link.href);
      button.textContent = "Saved";
    }
    setTimeout(() => { button.textContent = "Copy PNG"; }, 2000);
  }
}

export default function ({ parentElement, data, setTriggerValue }) {
  const viewer = new Viewer(parentElement, data, parentElement.querySelector(".viewer").quantviz ?? window.quantviz, setTriggerValue);
  return () => viewer.end();
}

// The whole photograph beside the maps, with the part that the networks see: its map, and a frame that can be moved.

const STEP = 0.05, FINE = 0.01;  // parts of the way that an arrow key moves the frame, and with Shift

class Framed extends Stage {
  // Draw the frame and, where the page takes one, what chooses another.
  around() {
    const { explains, whole, link } = this.data, figure = this.find(".whole");
    this.find(".explains").replaceChildren(...(explains ? ["The maps explain ", element("b", { textContent: explains })] : []));
    this.find(".link").hidden = !link;
    this.find(".aside").hidden = !whole;
    if (!whole) return;
    this.find(".aside").append(this.find(".sharing"));
    figure.querySelector("img").src = whole.photo;
    figure.querySelector("img").alt = `The whole photograph. ${whole.words}`;
    figure.querySelector("figcaption").textContent = whole.words;
    figure.querySelector("figcaption").className = whole.little ? "little" : "";
    this.box = [...whole.box];
    this.find(".seen").classList.remove("away");
    this.frameAt();
    this.choices();
  }

  frameAt() {
    const [left, top, width, height] = this.box.map((part) => `${100 * part}%`);
    Object.assign(this.find(".seen").style, { left, top, width, height });
  }

  // The map of the frame that is shown, over the part of the photograph that it is of.
  mapOnWhole() {
    const { whole } = this.data, canvas = this.find(".seen canvas");
    if (!whole) return;
    const layer = this.layer(this.at), context = canvas.getContext("2d");
    Object.assign(canvas, { width: this.data.width, height: this.data.height });
    canvas.style.opacity = this.opacity;
    if (layer) context.drawImage(layer, 0, 0);
  }

  choices() {
    const { crop, box } = this.data.whole, seen = this.find(".seen"), [, , width, height] = box;
    const movable = Boolean(crop) && crop !== "fit" && (width < 1 || height < 1);
    this.find(".crops").hidden = !crop;
    this.root.querySelectorAll(".crops button").forEach((button) => {
      button.ariaPressed = String(button.dataset.crop === crop);
      button.onclick = () => this.crop({ crop: button.dataset.crop });
    });
    seen.classList.toggle("movable", movable);
    if (!movable) {
      for (const name of ["tabindex", "role", "aria-label"]) seen.removeAttribute(name);
      seen.onpointerdown = seen.onpointermove = seen.onpointerup = seen.onpointercancel = seen.onkeydown = null;
      return;
    }
    const words = "Part of the photograph that the networks see. Drag it, or move it with the arrow keys.";
    Object.entries({ tabindex: "0", role: "group", "aria-label": words }).forEach(([name, value]) => seen.setAttribute(name, value));
    this.dragging(seen);
    seen.onkeydown = (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!move) return;
      event.preventDefault();
      const step = event.shiftKey ? FINE : STEP, [left, top] = this.box;
      this.moved(left + step * move[0] * (1 - width), top + step * move[1] * (1 - height));
      clearTimeout(this.timers.crop);
      this.timers.crop = setTimeout(() => this.placed(), SETTLED);
    };
  }

  dragging(seen) {
    let held = null;
    const photo = this.find(".whole img");
    seen.onpointerdown = (event) => {
      seen.setPointerCapture(event.pointerId);
      held = { x: event.clientX, y: event.clientY, box: [...this.box] };
    };
    seen.onpointermove = (event) => {
      if (!held) return;
      const { width, height } = photo.getBoundingClientRect();
      this.moved(held.box[0] + (event.clientX - held.x) / width, held.box[1] + (event.clientY - held.y) / height);
    };
    seen.onpointerup = seen.onpointercancel = () => {
      const moved = held && (held.box[0] !== this.box[0] || held.box[1] !== this.box[1]);
      held = null;
      if (moved) this.placed();
    };
  }

  moved(left, top) {
    const [, , width, height] = this.box, within = (value, span) => Math.min(Math.max(value, 0), Math.max(1 - span, 0));
    this.box = [within(left, width), within(top, height), width, height];
    this.find(".seen").classList.add("away");  // its map is of another part
    this.frameAt();
  }

  // Tell the page where the frame was put, in parts of the way that it has.
  placed() {
    const [left, top, width, height] = this.box, part = (value, span) => (span < 1 ? value / (1 - span) : 0.5);
    this.crop({ crop: "place", x: part(left, width), y: part(top, height) });
  }

  crop(chosen) {
    const caption = this.find(".whole figcaption");
    caption.className = "";
    caption.textContent = "The maps of this part are being computed …";
    this.find(".seen").classList.add("away");
    this.tells("crop", chosen);
  }
}

// Points of a map: where they are on the screen, which one is under the pointer, and pixels written straight into an image.
// Sixty thousand squares are a millisecond or two in typed arrays; shapes of a canvas would be a hundred times that.
"use strict";
class Points {
  constructor(packed) {
    const count = packed.length / 2;
    this.count = count;
    this.x = new Float32Array(count);
    this.y = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      this.x[i] = packed[2 * i] / 65535;
      // Up is up, as in figures.
      this.y[i] = 1 - packed[2 * i + 1] / 65535;
    }
    this._index();
  }

  // A grid of cells with their points in a row: what is near a place is found without looking at all.
  _index() {
    const side = this.side = Math.max(1, Math.min(256, Math.ceil(Math.sqrt(this.count / 4))));
    const cell = this.cell = new Uint32Array(this.count);
    const starts = this.starts = new Uint32Array(side * side + 1);
    for (let i = 0; i < this.count; i++) {
      cell[i] = Math.min(side - 1, Math.floor(this.y[i] * side)) * side + Math.min(side - 1, Math.floor(this.x[i] * side));
      starts[cell[i] + 1]++;
    }
    for (let at = 0; at < side * side; at++) starts[at + 1] += starts[at];
    const next = starts.slice();
    this.order = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) this.order[next[cell[i]]++] = i;
  }

  // Calls back with every point in a rectangle of the map.
  within(left, top, right, bottom, call) {
    const side = this.side, clip = (value) => Math.min(side - 1, Math.max(0, Math.floor(value * side)));
    for (let row = clip(top); row <= clip(bottom); row++) {
      for (let at = this.starts[row * side + clip(left)], end = this.starts[row * side + clip(right) + 1]; at < end; at++) {
        const i = this.order[at];
        if (this.x[i] >= left && this.x[i] <= right && this.y[i] >= top && this.y[i] <= bottom) call(i);
      }
    }
  }

  // The nearest point to a place within a radius; -1 if there is none.
  nearest(x, y, radius) {
    let best = -1, least = radius * radius;
    this.within(x - radius, y - radius, x + radius, y + radius, (i) => {
      const squared = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
      if (squared < least || (squared === least && best === -1)) { least = squared; best = i; }
    });
    return best;
  }

  // The k nearest others of a point, nearest first.
  neighbours(of, k) {
    const x = this.x[of], y = this.y[of];
    let found = [];
    for (let radius = 2 / this.side; radius < 4; radius *= 2) {
      found = [];
      this.within(x - radius, y - radius, x + radius, y + radius, (i) => {
        const squared = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
        if (i !== of && squared <= radius * radius) found.push([squared, i]);
      });
      if (found.length >= k) break;
    }
    return found.sort((a, b) => a[0] - b[0] || a[1] - b[1]).slice(0, k).map((one) => one[1]);
  }

  // Squares of a side into the pixels (32 bits each) of an image; colours are one byte a point, looked up in a palette. With
  // `only` (a byte) all other points are drawn first, in `faint`.
  paint(pixels, width, height, view, size, colours, palette, only, faint) {
    const { x, y, count } = this, { scale, left, top } = view, half = size >> 1;
    const limit = width - size, floor = height - size;
    for (let pass = only < 0 ? 1 : 0; pass < 2; pass++) {
      for (let i = 0; i < count; i++) {
        const colour = colours[i];
        if (only >= 0 && (colour === only) !== (pass === 1)) continue;
        const px = Math.floor((x[i] - left) * scale) - half, py = Math.floor((y[i] - top) * scale) - half;
        if (px < 0 || py < 0 || px > limit || py > floor) continue;
        const value = pass === 0 ? faint : palette[colour];
        let at = py * width + px;
        for (let row = 0; row < size; row++, at += width) for (let column = 0; column < size; column++) pixels[at + column] = value;
      }
    }
  }
}

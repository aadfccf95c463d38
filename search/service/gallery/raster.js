/**
 * Points painted straight into the pixels of a canvas, anti-aliased: 100,000 of them take a few milliseconds on one
 * core, with no GPU and no WebGL context to lose.
 */

const PAD = 16;
/** A mark starts on one of 2 by 2 places within a pixel, so that a slow move does not jump. */
const PHASES = 2;
const SAMPLES = 6;

const INSIDE = [
  (x, y) => x * x + y * y <= 1,
  (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.86,
  (x, y) => y <= 0.8 && y >= 2 * Math.abs(x) - 1.15,
  (x, y) => Math.abs(x) + Math.abs(y) <= 1.25,
];

/** A grid of pixels with room around it, so that a mark at the edge needs no clipping. */
export class Raster {
  #canvas;
  #pen;
  #image = null;
  #marks = new Map();

  /** @param {HTMLCanvasElement} canvas What is painted on; it is made to fit. */
  constructor(canvas) {
    this.#canvas = canvas;
    this.#pen = canvas.getContext("2d", { alpha: false });
  }

  /**
   * Set the size, and wipe.
   * @param {number} width CSS pixels.
   * @param {number} height CSS pixels.
   * @param {number} ratio Pixels of the canvas a CSS pixel.
   * @param {number} ground The colour of the ground, as `pixel` of palette.js gives it.
   */
  start(width, height, ratio, ground) {
    const across = Math.max(1, Math.round(width * ratio));
    const down = Math.max(1, Math.round(height * ratio));
    if (this.#canvas.width !== across) this.#canvas.width = across;
    if (this.#canvas.height !== down) this.#canvas.height = down;
    if (this.#image?.width !== across + 2 * PAD || this.#image.height !== down + 2 * PAD) {
      this.#image = new ImageData(across + 2 * PAD, down + 2 * PAD);
      this.pixels = new Uint32Array(this.#image.data.buffer);
      this.#marks.clear();
    }
    this.pixels.fill(ground);
  }

  /**
   * Paint some of the points.
   * @param {import("./points.js").Points} points
   * @param {Iterable<number[]>} stretches Which ones: [from, to) each.
   * @param {object} how
   * @param {number[]} how.toPixels A scale and two offsets: pixel = x * scale + left, y * scale + top.
   * @param {number} how.radius Of a mark, in pixels of the canvas, at most 12.
   * @param {Int32Array} how.slot A place in `colours` and `marks` for each point, -1 to leave it out.
   * @param {Uint32Array} how.colours
   * @param {Uint8Array} how.marks
   * @param {number} [how.step] Every how many-th point.
   */
  paint(points, stretches, { toPixels: [scale, left, top], radius, slot, colours, marks, step = 1 }) {
    const { pixels } = this;
    const width = this.#image.width;
    const [right, bottom] = [width - PAD, this.#image.height - PAD];
    const sprites = this.#sprites(radius);
    const [x, y] = [points.x, points.y];
    for (const [from, to] of stretches) {
      for (let i = from; i < to; i += step) {
        const kind = slot[i];
        if (kind < 0) continue;
        const across = x[i] * scale + left + PAD;
        const down = y[i] * scale + top + PAD;
        if (!(across >= PAD && down >= PAD && across < right && down < bottom)) continue;
        const [column, row] = [across | 0, down | 0];
        const phase = (((across - column) * PHASES) | 0) + (((down - row) * PHASES) | 0) * PHASES;
        const { core, rim, cover } = sprites[marks[kind] * PHASES * PHASES + phase];
        const base = row * width + column;
        const colour = colours[kind];
        for (let j = 0; j < core.length; j++) pixels[base + core[j]] = colour;
        const [redBlue, green] = [colour & 0xff00ff, colour & 0xff00];
        for (let j = 0; j < rim.length; j++) {
          const place = base + rim[j];
          const under = pixels[place];
          const a = cover[j];
          const [underRedBlue, underGreen] = [under & 0xff00ff, under & 0xff00];
          // Both channels at once: 24 bits and 6 of cover stay within 31.
          const both = (underRedBlue + (((redBlue - underRedBlue) * a) >> 6)) & 0xff00ff;
          pixels[place] = 0xff000000 | both | ((underGreen + (((green - underGreen) * a) >> 6)) & 0xff00);
        }
      }
    }
  }

  /** Put what was painted on the canvas. */
  finish() {
    this.#pen.putImageData(this.#image, -PAD, -PAD, PAD, PAD, this.#canvas.width, this.#canvas.height);
  }

  /** Offsets of the pixels that a mark covers whole (`core`) or in part (`rim`, with `cover` in 64ths). */
  #sprites(radius) {
    const key = Math.round(radius * 4);
    if (!this.#marks.has(key)) {
      this.#marks.set(
        key,
        INSIDE.flatMap((inside) =>
          Array.from({ length: PHASES * PHASES }, (_, phase) => this.#sprite(inside, key / 4, phase)),
        ),
      );
    }
    return this.#marks.get(key);
  }

  #sprite(inside, radius, phase) {
    const shift = (step) => (step + 0.5) / PHASES;
    const [middleX, middleY] = [shift(phase % PHASES), shift(Math.floor(phase / PHASES))];
    const [core, rim, cover] = [[], [], []];
    const reach = Math.min(PAD - 1, Math.ceil(radius * 1.3) + 1);
    for (let row = -reach; row <= reach; row++) {
      for (let column = -reach; column <= reach; column++) {
        let hits = 0;
        for (let sample = 0; sample < SAMPLES * SAMPLES; sample++) {
          const across = column + ((sample % SAMPLES) + 0.5) / SAMPLES - middleX;
          const down = row + (Math.floor(sample / SAMPLES) + 0.5) / SAMPLES - middleY;
          if (inside(across / radius, down / radius)) hits++;
        }
        const offset = row * this.#image.width + column;
        if (hits === SAMPLES * SAMPLES) core.push(offset);
        else if (hits > 0) {
          rim.push(offset);
          cover.push(Math.round((64 * hits) / SAMPLES ** 2));
        }
      }
    }
    return { core: Int32Array.from(core), rim: Int32Array.from(rim), cover: Uint8Array.from(cover) };
  }
}

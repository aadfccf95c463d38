"use strict";
(() => {
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const canvas = document.getElementById("map"),
    tip = document.getElementById("tip");
  const pick = document.getElementById("colour"),
    key = document.getElementById("key");
  const pen = canvas.getContext("2d"),
    count = data.x.length;
  let zoom = 1,
    left = 0,
    top = 0,
    width = 1,
    height = 1,
    only = -2,
    shown = -1,
    queued = false;
  const kind = () => data.kinds[pick.selectedIndex];
  const side = () => Math.min(width, height) * 0.96 * zoom;
  const px = (i) => left + width / 2 + (data.x[i] / data.steps - 0.5) * side();
  const py = (i) => top + height / 2 - (data.y[i] / data.steps - 0.5) * side();
  function draw() {
    queued = false;
    const scale = window.devicePixelRatio || 1,
      colour = kind();
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const radius = Math.max(1.2, Math.min(5, 90 / Math.sqrt(count))) * Math.min(3, Math.sqrt(zoom));
    for (const late of [false, true]) {
      for (let i = 0; i < count; i++) {
        const group = colour.of[i];
        if (group >= 0 !== late) continue;
        const x = px(i),
          y = py(i);
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        pen.globalAlpha = only === -2 || only === group ? (group < 0 ? 0.5 : 0.8) : 0.06;
        pen.fillStyle = group < 0 ? data.none : colour.colours[group];
        pen.beginPath();
        pen.arc(x, y, radius, 0, 6.2832);
        pen.fill();
      }
    }
    if (shown >= 0) {
      pen.globalAlpha = 1;
      pen.lineWidth = 2;
      pen.strokeStyle = getComputedStyle(canvas).color;
      pen.beginPath();
      pen.arc(px(shown), py(shown), radius + 4, 0, 6.2832);
      pen.stroke();
    }
  }
  function redraw() {
    if (!queued) {
      queued = true;
      requestAnimationFrame(draw);
    }
  }
  function resize() {
    const scale = window.devicePixelRatio || 1,
      box = canvas.getBoundingClientRect();
    width = box.width;
    height = box.height;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    redraw();
  }
  function line(text) {
    const row = document.createElement("div");
    row.textContent = text;
    tip.append(row);
  }
  function picture(photo) {
    const found = document.querySelector(`img[data-photo="${photo}"]`);
    const source = found ? found.src : data.thumbs[photo];
    if (!source) return;
    const image = document.createElement("img");
    image.src = source;
    image.alt = "";
    tip.append(image);
  }
  function hover(event) {
    const box = canvas.getBoundingClientRect(),
      x = event.clientX - box.left,
      y = event.clientY - box.top;
    let best = 144,
      found = -1;
    for (let i = 0; i < count; i++) {
      if (only !== -2 && kind().of[i] !== only) continue;
      const apart = (px(i) - x) ** 2 + (py(i) - y) ** 2;
      if (apart < best) {
        best = apart;
        found = i;
      }
    }
    if (found !== shown) {
      shown = found;
      tip.replaceChildren();
      if (found >= 0) {
        picture(data.photo[found]);
        line(`#${data.photo[found]} ${data.name[found]}`);
        for (const one of data.kinds) {
          line(`${one.title}: ${one.of[found] >= 0 ? one.names[one.of[found]] : one.none}`);
        }
        line(data.folders[data.folder[found]]);
      }
      redraw();
    }
    tip.hidden = found < 0;
    if (found < 0) return;
    const base = tip.parentElement.getBoundingClientRect();
    const across = event.clientX - base.left,
      down = event.clientY - base.top;
    tip.style.left = `${across > base.width / 2 ? Math.max(4, across - tip.offsetWidth - 14) : across + 14}px`;
    tip.style.top = `${Math.max(4, Math.min(down + 10, base.height - tip.offsetHeight - 8))}px`;
  }
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = [event.clientX - left, event.clientY - top];
    canvas.setPointerCapture(event.pointerId);
    tip.hidden = true;
  });
  canvas.addEventListener("pointerup", () => {
    drag = null;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) {
      hover(event);
      return;
    }
    left = event.clientX - drag[0];
    top = event.clientY - drag[1];
    redraw();
  });
  canvas.addEventListener("pointerleave", () => {
    tip.hidden = true;
    shown = -1;
    redraw();
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      const x = event.clientX - box.left - width / 2,
        y = event.clientY - box.top - height / 2;
      const next = Math.max(0.5, Math.min(80, zoom * Math.exp(-event.deltaY * 0.0015)));
      left = x - ((x - left) * next) / zoom;
      top = y - ((y - top) * next) / zoom;
      zoom = next;
      redraw();
    },
    { passive: false },
  );
  document.getElementById("whole").addEventListener("click", () => {
    zoom = 1;
    left = top = 0;
    redraw();
  });
  function legend() {
    only = -2;
    const one = kind();
    key.replaceChildren();
    const entries = one.names.map((name, place) => [name, place, one.colours[place]]);
    if (one.of.some((group) => group < 0)) entries.push([one.none, -1, data.none]);
    for (const [name, place, shade] of entries) {
      const item = document.createElement("li"),
        button = document.createElement("button");
      const dot = document.createElement("i"),
        text = document.createElement("span");
      button.type = "button";
      dot.style.background = shade;
      text.textContent = name;
      button.addEventListener("click", () => {
        only = only === place ? -2 : place;
        for (const other of key.querySelectorAll("button")) {
          other.classList.toggle("off", only !== -2 && other !== button);
        }
        redraw();
      });
      button.append(dot, text);
      item.append(button);
      key.append(item);
    }
    redraw();
  }
  for (const one of data.kinds) pick.append(new Option(one.title));
  pick.addEventListener("change", legend);
  new ResizeObserver(resize).observe(canvas);
  legend();
})();
